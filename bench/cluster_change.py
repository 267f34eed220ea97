"""How long one change takes to reach its reconcile while all else is idle, for bench/cluster, and how late a watch is that only reads."""
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from cluster_fleet import Failed, moment, until

MOST = 1000  # Changes of a round: the 99th percentile is then more than one or two strays.
BARE = pathlib.Path(__file__).resolve().parent / "bare_watch.py"


def change_each(fleet, workspaces, first):
    """Changes an annotation of one workspace after the other, numbered from `first`; when each answer's last byte had come, by namespace/name."""
    connection = http.client.HTTPSConnection(fleet.admin.url.hostname, fleet.admin.url.port, context=fleet.admin.context, timeout=30)
    headers = {**fleet.admin.headers, "Content-Type": "application/merge-patch+json"}
    count, answered = min(MOST, workspaces), {}
    for n in range(count):
        w = n * (workspaces // count)
        key = f"team-{w // 50}/ws-{w:05}"
        body = json.dumps({"metadata": {"annotations": {"example.com/changed": str(first + n)}}})
        connection.request("PATCH", "/apis/molecule.ai/v1alpha1/namespaces/{}/workspaces/{}".format(*key.split("/")), body, headers)
        answer = connection.getresponse()
        answer.read()
        answered[key] = time.time()
        if answer.status != 200:
            raise Failed(f"the change of {key} was answered {answer.status}")
        time.sleep(0.02)
    connection.close()
    return answered


def reconciled(replica, begin, keys):
    """When the pass of each began, by the log from `begin` on; both clocks are this machine's."""
    def all_begun():
        with open(replica.log) as log:
            log.seek(begin)
            lines = re.findall(r'^(\S+) debug\s+reconcile begins controller="workspace" key="([^"]+)"', log.read(), re.M)
        found = {}
        for at, key in lines:
            found.setdefault(key, moment(at))
        return found if all(key in found for key in keys) else None
    return until(60, "every change is reconciled", all_begun)


def waits(later, earlier):
    """Milliseconds, sorted. A watch may be quicker than the answer: then nobody waited."""
    return sorted(max(0.0, one - other) * 1000 for one, other in zip(later, earlier))


def percentile(sorted_values, share):
    return sorted_values[int(len(sorted_values) * share)]


def one_change(fleet, replica, workspaces, figure):
    begin = replica.log.stat().st_size
    answered = change_each(fleet, workspaces, 0)
    found = reconciled(replica, begin, answered)
    ours = waits([found[key] for key in answered], answered.values())
    figure("one change while idle, write's answer to reconcile, p50", percentile(ours, 0.5), "ms")
    figure("one change while idle, write's answer to reconcile, p99", percentile(ours, 0.99), "ms", 2)
    beside_a_bare_watch(fleet, replica, workspaces, figure)


def beside_a_bare_watch(fleet, replica, workspaces, figure):
    """The same once more, beside a watch that does nothing but read. What that one waits is the server's, and what the two cores cost it."""
    with tempfile.TemporaryFile("w+") as seen:
        watch = subprocess.Popen([sys.executable, BARE, fleet.api.kubeconfig], stdout=seen)
        try:
            until(60, "the bare watch is open", lambda: pathlib.Path(f"/proc/self/fd/{seen.fileno()}").stat().st_size > 0)
            begin = replica.log.stat().st_size
            answered = change_each(fleet, workspaces, workspaces)
            found = reconciled(replica, begin, answered)
        finally:
            watch.kill()
            watch.wait()
        seen.seek(0)
        told = {int(words[0]): float(words[1]) for words in map(str.split, seen) if len(words) == 2}
    told = [told.get(workspaces + n) for n in range(len(answered))]
    if None in told:
        raise Failed("the bare watch has missed a change")
    figure("the same, from the answer to a bare watch that only reads (beside ours), p99", percentile(waits(told, answered.values()), 0.99), "ms")
    behind = waits([found[key] for key in answered], told)
    figure("from a bare watch's event to our reconcile, p50", percentile(behind, 0.5), "ms")
    figure("from a bare watch's event to our reconcile, p99", percentile(behind, 0.99), "ms")
