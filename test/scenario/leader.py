#!/usr/bin/env python3
"""Two replicas on a real kube-apiserver, one Lease: leader.py PROGRAM [NAME...].

Starts `test/cluster/up api --audit` (etcd and kube-apiserver only), gives each replica a service account of its own, and reads from the audit log who
wrote, listed and watched when. What is measured is printed; what must hold fails the test.
"""
import calendar
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

from api_proxy import ApiProxy
from world import KUBECTL, ROOT, World, Failed, condition, declared, holds, is_ready, parts_in_order, row, until, workspace

# With WO_PAUSE_SECONDS the durations that are the program's defaults; else shorter ones of the same proportions.
PAUSE = float(os.environ.get("WO_PAUSE_SECONDS", "0"))
LEASE, RENEW, RETRY = (15, 10, 2) if PAUSE else (3, 2, 0.4)
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
QUESTIONS = {"tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews"}  # Creates by their form alone.


def moment(text):
    """An audit log's time stamp in seconds since 1970."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (fraction or "0"))


class Replica:
    def __init__(self, world, name, *flags, lease=LEASE):
        self.world, self.name = world, name
        self.user = f"system:serviceaccount:default:operator-{name}"
        self.log = world.folder / f"operator-{name}-{time.time_ns()}.log"
        arguments = [world.program, "run", "--kubeconfig", world.folder / f"kubeconfig-{name}", "--data-dir", world.folder / f"data-{name}",
                     "--settings", world.folder / "settings.yaml", "--lease-seconds", lease, "--lease-renew-seconds", RENEW,
                     "--lease-retry-seconds", RETRY, *flags]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(a) for a in arguments], stdout=log, stderr=log)
        world.replicas.append(self)

    def ready(self):
        def url():
            if self.process.poll() is not None:
                raise Failed(f"replica {self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            return re.search(r" ready .*?(https?://[^\s\"]+)", self.log.read_text())
        self.url = until(30, f"replica {self.name} warm", url).group(1)
        return self

    def http(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", self.http("/metrics")[1], re.M)
        return float(found.group(1)) if found else None

    def leads(self):
        return self.metric("leader_election_master_status") == 1

    def end(self, number, seconds=15):
        self.process.send_signal(number)
        begin = time.monotonic()
        code = self.process.wait(seconds)
        return code, time.monotonic() - begin


class Cluster(World):
    """A World whose API is a real one, with replicas instead of the embedded operator."""

    def __init__(self, program):
        super().__init__(program)
        self.replicas = []
        self.cluster = self.folder / "cluster"
        self.settings["boxes"] = {"directoryRoots": [str(self.folder)]}
        self.write_settings()
        subprocess.run([ROOT / "test/cluster/up", "api", "--dir", self.cluster, "--audit"], check=True, capture_output=True, timeout=900)
        self.environment["KUBECONFIG"] = str(self.cluster / "kubeconfig")
        self.kubectl("apply", "--server-side", "-f", ROOT / "crds")
        self.kubectl("wait", "--for=condition=Established", "--timeout=20s", "crd", "workspaces.molecule.ai", "declaredplugins.molecule.ai")
        for name in ("a", "b"):
            self._account(name)

    def _account(self, name):
        self.kubectl("create", "serviceaccount", f"operator-{name}")
        self.kubectl("create", "clusterrolebinding", f"operator-{name}", "--clusterrole=cluster-admin", f"--serviceaccount=default:operator-{name}")
        token = self.kubectl("create", "token", f"operator-{name}", "--duration=1h").stdout.strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout)
        config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
        (self.folder / f"kubeconfig-{name}").write_text(json.dumps(config))

    def audit(self, replica, since=0.0):
        """(time, verb, resource, name) of the replica's requests that reached the server since then, the Lease's left out."""
        seen = {}
        for line in (self.cluster / "audit.log").read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # The last line is being written.
            at = moment(entry["requestReceivedTimestamp"])
            what = entry.get("objectRef", {})
            if entry["user"]["username"] == replica.user and at >= since and what.get("resource") != "leases":
                seen[entry["auditID"]] = (at, entry["verb"], what.get("resource"), what.get("name"))
        return sorted(seen.values(), key=lambda one: one[0])

    def writes(self, replica):
        """(received, answered, resource, subresource) of the replica's writes that reached the server, the Lease's too."""
        seen = {}
        for line in (self.cluster / "audit.log").read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            what = entry.get("objectRef", {})
            if entry["user"]["username"] == replica.user and entry["verb"] in WRITES and what.get("resource") not in QUESTIONS:
                seen[entry["auditID"]] = (moment(entry["requestReceivedTimestamp"]), moment(entry["stageTimestamp"]), what.get("resource"),
                                          what.get("subresource", ""))
        return sorted(seen.values())

    def through_proxy(self, name):
        """From now on the replica of that name reaches the API server by a proxy, which is returned."""
        path = self.folder / f"kubeconfig-{name}"
        config = json.loads(path.read_text())
        proxy = ApiProxy(self.cluster, int(config["clusters"][0]["cluster"]["server"].rsplit(":", 1)[1]))
        config["clusters"][0]["cluster"]["server"] = proxy.url
        path.write_text(json.dumps(config))
        return proxy

    def declare(self, through, name, plugin, source):
        """POSTs a plugin for the workspace `name`; the caller's own rights count."""
        token = json.loads((self.folder / "kubeconfig-b").read_text())["users"][0]["user"]["token"]
        request = urllib.request.Request(f"{through.url}/workspaces/default.{name}/plugins", method="POST",
                                         data=json.dumps({"name": plugin, "source": source}).encode())
        request.add_header("Authorization", "Bearer " + token)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def lease(self):
        return json.loads(self.kubectl("get", "lease", "workspace-operator", "-o", "json").stdout)["spec"]

    def close(self):
        for replica in self.replicas:
            if replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()
        subprocess.run([ROOT / "test/cluster/down", "--dir", self.cluster], check=False, capture_output=True, timeout=120)
        super().close()

    def ready_workspace(self, name, through, plugin, tag="v1"):
        """A workspace with one plugin, whose agent reports to `through`."""
        source = self.plugin(plugin, tag)
        box = self.box(name)
        self.apply(workspace(name, box, [(plugin, source)]))
        self.url = through.url
        agent = self.agent(name)
        until(40, f"{name} Ready", lambda: is_ready(self.workspace(name)))
        return agent


class Watcher(threading.Thread):
    """Notes every state that the workspace shows."""

    def __init__(self, world, name):
        super().__init__(daemon=True)
        self.states, self.world = [], world
        self.process = subprocess.Popen([KUBECTL, "get", "workspaces.molecule.ai", name, "-w", "-o", "jsonpath={.status.state}{\"\\n\"}"],
                                        env=world.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.states.append(line.strip())

    def end(self):
        self.process.kill()
        self.process.wait()
        return self.states


def pair(world, first="a", second="b", lease=LEASE):
    leader = Replica(world, first, lease=lease).ready()
    until(10, f"{first} leads", leader.leads)
    return leader, Replica(world, second, lease=lease).ready()


def standby(world):
    """A follower is ready and warm, writes nothing, and passes heartbeats, registrations and downloads on."""
    leader, follower = pair(world)
    begin = time.time()
    agent = world.ready_workspace("one", follower, "alpha")
    code, text = follower.http("/readyz")
    if code != 200:
        raise Failed(f"the follower is not ready: {code} {text}")
    if follower.leads() or world.lease()["holderIdentity"] == "":
        raise Failed("the follower leads")
    until(10, "the follower's cache has the workspace", lambda: (follower.metric('informer_objects{informer="workspaces"}') or 0) >= 1)
    wrote = [one for one in world.audit(follower, begin) if one[1] in WRITES]
    if wrote:
        raise Failed(f"the follower wrote: {wrote}")
    source = world.plugin("beta")
    world.apply(declared("beta", source, "one"))
    until(40, "beta loaded", lambda: row(world.workspace("one"), "beta").get("loaded"))
    if agent.boots() != 2 and agent.boots() != 3:
        raise Failed(f"starts of the runtime: {agent.boots()}")
    code, body = world.http("POST", "/registry/heartbeat", token="nobody's", body=b"{}")
    if code != 401:
        raise Failed(f"an unknown token by way of the follower: {code} {body}")
    return f"heartbeats went through the follower; it wrote 0 times and is ready; {leader.name} led"


def take_over(world):
    """SIGKILL: the other replica leads within the lease and two seconds, from its caches."""
    leader, follower = pair(world)
    world.ready_workspace("one", follower, "alpha")
    watcher = Watcher(world, "one")
    begin, wall = time.monotonic(), time.time()
    leader.end(signal.SIGKILL)
    code, _ = world.http("POST", "/registry/heartbeat", token="whoever", body=b"{}")
    if code != 503:
        raise Failed(f"between two leaders a heartbeat is answered {code}, not 503")
    # An edit that nobody sees happen.
    world.kubectl("annotate", "workspaces.molecule.ai", "one", "molecule.ai/reconcile-requested-at=between", "--overwrite")
    until(LEASE + 10, "take-over", follower.leads)
    took = time.monotonic() - begin
    until(10, "the edit is handled", lambda: world.workspace("one")["status"].get("lastHandledReconcileAt") == "between")
    handled = time.monotonic() - begin
    until(20, "heartbeats are taken", lambda: (follower.metric("workspace_operator_heartbeat_reporting") or 0) >= 1)
    holds(7, "Ready", lambda: is_ready(world.workspace("one")))  # Longer than the heartbeat's timeout.
    lists = [one for one in world.audit(follower, wall) if one[1] in ("list", "watch") and one[2] in ("workspaces", "declaredplugins")]
    states = watcher.end()
    if took > LEASE + 2:
        raise Failed(f"the take-over took {took:.2f} s with a lease of {LEASE} s")
    if lists:
        raise Failed(f"lists or watches since the take-over: {lists}")
    if set(states) - {"Online", ""}:
        raise Failed(f"states shown over the take-over: {states}")
    return f"lease {LEASE} s: leading after {took:.2f} s, edit handled after {handled:.2f} s, lists 0, watches 0, states {sorted(set(states))}"


def pause(world):
    """SIGSTOP: whoever is paused beyond its lease is ended by its own timer before anybody else leads, and writes nothing more."""
    leader, follower = pair(world)
    names = [f"w{i}" for i in range(20)]
    for name in names:
        world.apply(workspace(name, world.box(name)))
    until(30, "all have a status", lambda: all(world.workspace(n).get("status", {}).get("conditions") for n in names))
    going = True

    def pressure():
        while going:
            world.kubectl("annotate", "workspaces.molecule.ai", "--all", f"molecule.ai/reconcile-requested-at={time.time_ns()}", "--overwrite", check=False)
    worker = threading.Thread(target=pressure)
    worker.start()
    try:
        until(20, "the leader writes", lambda: len([o for o in world.audit(leader) if o[1] == "patch"]) > 40)
        leader.process.send_signal(signal.SIGSTOP)
        stopped = time.time()
        until(LEASE + 10, "take-over", follower.leads)
        holds(max(LEASE, PAUSE - (time.time() - stopped)), "the new leader works while the old one is paused", follower.leads)
        code = leader.process.poll()
        leader.process.send_signal(signal.SIGCONT)
        holds(1, "the new leader works on", follower.leads)
    finally:
        going = False
        worker.join()
    after = [one for one in world.audit(leader, stopped + 0.2) if one[1] in WRITES]
    if after:
        raise Failed(f"writes of the paused leader reached the server: {after}")
    if code != -signal.SIGKILL:
        raise Failed(f"the paused leader was not ended by its timer: {code}\n{leader.log.read_text()[-2000:]}")
    before = len([one for one in world.audit(leader) if one[1] in WRITES])
    return f"lease {LEASE} s, stopped for {time.time() - stopped:.0f} s: {before} writes before, 0 after; its timer ended it while it was stopped"


def stall(world):
    """SIGSTOP for longer than the renew deadline and less than its timer: it goes on, finds its fence closed, writes nothing and ends."""
    leader, follower = pair(world, lease=8 if not PAUSE else LEASE + 15)
    names = [f"w{i}" for i in range(10)]
    for name in names:
        world.apply(workspace(name, world.box(name)))
    until(30, "all have a status", lambda: all(world.workspace(n).get("status", {}).get("conditions") for n in names))
    leader.process.send_signal(signal.SIGSTOP)
    stopped = time.time()
    # Each of them is a pass that writes as soon as it goes on.
    world.kubectl("annotate", "workspaces.molecule.ai", "--all", "molecule.ai/reconcile-requested-at=meanwhile", "--overwrite")
    holds(RENEW + 1 - (time.time() - stopped), "it does not end while it is stopped", lambda: leader.process.poll() is None)
    leader.process.send_signal(signal.SIGCONT)
    code = leader.process.wait(12)
    after = [one for one in world.writes(leader) if one[0] > stopped + 0.2]
    if code != 5 or after:
        raise Failed(f"exit {code}, writes after it was stopped: {after}\n{leader.log.read_text()[-2000:]}")
    if follower.leads():
        raise Failed("the other one led before the lease had run out")
    until(60, "take-over", follower.leads)
    until(20, "all are handled", lambda: all(world.workspace(n)["status"].get("lastHandledReconcileAt") == "meanwhile" for n in names))
    return f"went on after {RENEW + 1} s with {len(names)} passes at hand, ended with 5, wrote 0 times; the other one did them"


def release_last(world):
    """SIGTERM amid status writes, events and plugins declared by way of the follower: the lease is given back when all of them are answered."""
    proxy = world.through_proxy("a")
    leader, follower = pair(world)
    world.ready_workspace("one", follower, "alpha")
    names = [f"w{i}" for i in range(12)]
    for name in names:
        world.apply(workspace(name, world.box(name)))
    until(30, "all have a status", lambda: all(world.workspace(n).get("status", {}).get("conditions") for n in names))
    source, going, held, declared_by_post = world.plugin("gamma"), True, [], []

    def hold(target):
        """Every write but the Lease's is on its way for most of a second."""
        if "/leases/" not in target and (target.partition("?")[0].endswith("/status") or "fieldManager=" in target):
            held.append(target)
            time.sleep(0.7)
    proxy.before = hold

    def annotate():
        while going:
            world.kubectl("annotate", "workspaces.molecule.ai", "--all", f"molecule.ai/reconcile-requested-at={time.time_ns()}", "--overwrite", check=False)

    def declare():
        while going:
            try:
                declared_by_post.append(world.declare(follower, "one", f"p{len(declared_by_post)}", source))
            except OSError as error:
                declared_by_post.append(repr(error))
    workers = [threading.Thread(target=annotate), threading.Thread(target=declare)]
    for worker in workers:
        worker.start()
    try:
        until(30, "statuses, events and plugins are being written",
              lambda: {"workspaces", "events", "declaredplugins"} <= {one[2] for one in world.writes(leader)} and 202 in declared_by_post)
        seen = len(held)
        until(10, "writes are on their way", lambda: len(held) >= seen + 4)
        leader.process.send_signal(signal.SIGTERM)
        signalled = time.time()
        code = leader.process.wait(12)
        until(LEASE + 10, "take-over", follower.leads)
    finally:
        going = False
        for worker in workers:
            worker.join()
        proxy.close()
    writes = world.writes(leader)
    released = [one for one in writes if one[2] == "leases"][-1]
    others = [one for one in writes if one[2] != "leases"]
    late = [one for one in others if one[1] > released[0]]
    under_way = [one for one in others if one[1] > signalled]
    if code != 0 or "the lease is given back" not in leader.log.read_text():
        raise Failed(f"exit {code}:\n{leader.log.read_text()[-2000:]}")
    if late or writes[-1] != released:
        raise Failed(f"given back at {released}, yet answered later: {late}; the last writes are {writes[-5:]}")
    if not under_way:
        raise Failed("nothing was under way at the signal: the test shows nothing")
    first = [one for one in world.writes(follower) if one[2] != "leases"][0]
    if first[0] < released[0]:
        raise Failed(f"the other one wrote {first} before the lease was given back at {released}")
    kinds = sorted({one[2] for one in others})
    return f"{len(others)} writes of {kinds}; {len(under_way)} answered after the signal, the last {released[0] - max(one[1] for one in others):.3f} s before the release"


def write_held_past_the_stop(world, resource, is_it, write):
    """SIGTERM to the leader while a write of that resource hangs for longer than the stop waits; returns what is to be told of it."""
    proxy = world.through_proxy("a")
    leader, follower = pair(world, lease=8)
    world.ready_workspace("one", follower, "alpha")
    hanging = threading.Event()

    def hold(target):
        if is_it(target):
            hanging.set()
            time.sleep(5)
    proxy.before = hold
    write(leader)
    if not hanging.wait(20):
        raise Failed(f"no {resource} were written")
    begin = time.time()
    leader.process.send_signal(signal.SIGTERM)
    code, text = leader.process.wait(12), leader.log.read_text()
    ended = time.time() - begin
    if "the lease is not given back" not in text or "the lease is given back" in text or ended > 10:
        raise Failed(f"exit {code} after {ended:.1f} s:\n{text[-2000:]}")
    until(30, "take-over", follower.leads)
    landed = until(10, "the held write reaches the server", lambda: [one for one in world.writes(leader) if one[2] == resource and one[0] > begin])
    taken = [one for one in world.writes(follower) if one[2] == "leases" and one[0] > begin][0]
    proxy.close()
    if landed[-1][1] > taken[0]:
        raise Failed(f"a write of the old leader, {landed[-1]}, was answered after the other one took the lease, {taken}")
    return f"ended {ended:.1f} s after the signal, exit {code}; its write landed {taken[0] - landed[-1][1]:.1f} s before the other one led"


def not_released(world):
    """SIGTERM while a status is on its way for too long: the lease is not given back, and the write lands before anybody else leads."""
    def write(_):
        world.kubectl("annotate", "workspaces.molecule.ai", "one", "molecule.ai/reconcile-requested-at=held", "--overwrite")
    return write_held_past_the_stop(world, "workspaces", lambda target: target.partition("?")[0].endswith("/status"), write)


def not_released_for_http(world):
    """The same while a plugin that was declared over HTTP is on its way: no controller has begun it."""
    source = world.plugin("beta")

    def write(leader):
        def declare():
            try:
                world.declare(leader, "one", "beta", source)
            except OSError:
                pass  # The leader ends before it has answered.
        threading.Thread(target=declare, daemon=True).start()
    return write_held_past_the_stop(world, "declaredplugins", lambda target: "/declaredplugins" in target and "fieldManager=" in target, write)


def order(world):
    """Parts are started and ended in their order, by the log of the program itself; a follower starts none of the leader's."""
    world.settings["log"] = {"level": "debug"}
    world.write_settings()
    leader, follower = pair(world)
    world.ready_workspace("one", follower, "alpha")
    shared = ["leader-election", "http", "settings", "heartbeats", "workspaces", "declaredplugins", "pods", "pod-tokens", "leadership"]
    leading = ["events", "declaredplugin-controller", "workspace-controller"]
    if (seen := parts_in_order(follower.log.read_text())) != shared:
        raise Failed(f"the follower has started {seen}")
    leader.end(signal.SIGTERM)
    text = leader.log.read_text()
    if (seen := parts_in_order(text)) != shared + leading:
        raise Failed(f"the leader has started {seen}")
    for first, then in (("part is ready part=workspaces", "part is ready part=leadership"),
                        ("part is ready part=declaredplugins", "part is ready part=leadership"),
                        ("part is ready part=pods", "part is ready part=leadership"), ("ours=true", "part starts part=events"),
                        ("part has ended part=http", "the lease is given back"), ("the lease is given back", "part has ended part=leader-election")):
        plain = text.replace('"', "")
        if not 0 <= plain.find(first) < plain.find(then):
            raise Failed(f"`{first}` does not come before `{then}`:\n{text[-3000:]}")
    until(LEASE + 10, "take-over", follower.leads)
    until(10, "the follower has started the leader's parts", lambda: parts_in_order(follower.log.read_text()) == shared + leading)
    return f"{len(shared)} parts on both, {len(leading)} on the leader; ended in reverse, the lease after HTTP"


def hand_over(world):
    """SIGTERM: the lease is given back last, and the other replica leads at its next look."""
    leader, follower = pair(world)
    world.ready_workspace("one", follower, "alpha")
    begin = time.monotonic()
    leader.process.send_signal(signal.SIGTERM)
    until(10, "take-over", follower.leads)
    took = time.monotonic() - begin
    code = leader.process.wait(12)
    if code != 0:
        raise Failed(f"exit {code}:\n{leader.log.read_text()[-2000:]}")
    if took > 2 * RETRY + 1:
        raise Failed(f"the hand-over took {took:.2f} s")
    if world.lease()["leaseTransitions"] < 1:
        raise Failed(f"{world.lease()}")
    return f"leading {took:.2f} s after the signal (looks every {RETRY * 0.9:.2f} s at most), exit 0"


def alone_and_wrong(world):
    """Without an election there is no Lease; timings that cannot work are refused by name."""
    alone = Replica(world, "a", "--no-leader-election").ready()
    world.ready_workspace("one", alone, "alpha")
    if world.kubectl("get", "lease", "workspace-operator", check=False).returncode == 0:
        raise Failed("there is a Lease")
    alone.end(signal.SIGTERM)
    wrong = subprocess.run([world.program, "run", "--kubeconfig", world.folder / "kubeconfig-b", "--data-dir", world.folder / "data-b",
                            "--lease-seconds", "3", "--lease-renew-seconds", "3"], capture_output=True, text=True, timeout=20)
    code, text = wrong.returncode, wrong.stderr
    if code != 2 or "--lease-seconds" not in text:
        raise Failed(f"exit {code}: {text}")
    return "no Lease without an election; a renew deadline of the lease's length: exit 2, names --lease-seconds"


def idle(world):
    """Idle replicas ask for next to nothing besides the Lease."""
    leader, follower = pair(world)
    world.ready_workspace("one", follower, "alpha")
    until(20, "quiet", lambda: not world.audit(leader, time.time() - 3))
    begin = time.time()
    version = world.workspace("one")["metadata"]["resourceVersion"]
    time.sleep(30)  # The measured time itself.
    asked = {r.name: world.audit(r, begin) for r in (leader, follower)}
    for name, seen in asked.items():
        if len(seen) > 4:
            raise Failed(f"{name} asked {len(seen)} times in 30 s: {seen}")
    if world.workspace("one")["metadata"]["resourceVersion"] != version:
        raise Failed("the idle object was written")
    return f"in 30 s besides the Lease: leader {len(asked[leader.name])}, follower {len(asked[follower.name])} requests; resourceVersion did not move"


def lost(world):
    """A leader that cannot renew (its permission is gone) stops its workers and ends with exit code 5, before anybody else leads."""
    leader, follower = pair(world, lease=8)  # The timer of last resort comes late enough for an orderly end on a busy machine.
    world.ready_workspace("one", follower, "alpha")
    world.kubectl("delete", "clusterrolebinding", "operator-a")
    begin = time.monotonic()
    code = leader.process.wait(12)
    took = time.monotonic() - begin
    if code != 5 or "LeaseLost" not in leader.log.read_text():
        raise Failed(f"exit {code}:\n{leader.log.read_text()[-2000:]}")
    until(15, "take-over", follower.leads)
    holds(7, "Ready", lambda: is_ready(world.workspace("one")))
    return f"ended with 5 after {took:.2f} s (renew deadline {RENEW} s), then the other one led"


SCENARIOS = {f.__name__: f for f in (standby, take_over, pause, stall, lost, hand_over, release_last, not_released, not_released_for_http, order,
                                     alone_and_wrong, idle)}


def main():
    program, names = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:] or list(SCENARIOS)
    passed = failed = 0
    for name in names:
        begin, world = time.monotonic(), None
        try:
            world = Cluster(program)
            said = SCENARIOS[name](world)
        except Exception as error:
            failed += 1
            print(f"FAILED  leader: {name}: {error if isinstance(error, Failed) else traceback.format_exc()}", flush=True)
            for replica in world.replicas if world else []:
                print(f"--- {replica.name}\n" + "\n".join(replica.log.read_text(errors="replace").splitlines()[-25:]), flush=True)
        else:
            passed += 1
            print(f"ok      leader: {name} ({time.monotonic() - begin:.1f} s): {said}", flush=True)
        finally:
            if world:
                world.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    os.environ.setdefault("KUBECACHEDIR", "/tmp/wo-kubecache")
    sys.exit(main())
