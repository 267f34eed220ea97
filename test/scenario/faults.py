#!/usr/bin/env python3
"""Faults of a real API server while plugins converge: faults.py PROGRAM [NAME...]. Each world has its own etcd and API server.

After each fault the same must hold: what was on the box is recorded and never delivered again, what was missing is delivered, the runtime was
started once more than at boot for each restart that was owed, no row is lost, and a box that reported all the time is never called Offline.
Prints the time from the fault's end to convergence. Ends with 'N passed, N failed'.
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time

import api_proxy
from scenarios import expect, run_all
from world import KUBECTL, Failed, declared, holds, is_ready, row, until, workspace


# How long the faults last; `make campaign` gives what the specification asks for (120 and 60; the outage: half an hour).
FAULT_SECONDS = float(os.environ.get("WO_FAULT_SECONDS", "10"))
OUTAGE_SECONDS = float(os.environ.get("WO_OUTAGE_SECONDS", "20"))
DELAY_SECONDS = float(os.environ.get("WO_DELAY_SECONDS", "10"))


class States(threading.Thread):
    """Every state that a workspace is seen in, by a watch that is started again when it ends."""

    def __init__(self, world, name):
        super().__init__(daemon=True)
        self.world, self.name, self.seen, self.over, self.process = world, name, [], False, None
        self.start()

    def run(self):
        while not self.over:
            self.process = subprocess.Popen([KUBECTL, "get", "workspaces.molecule.ai", self.name, "--watch", "-o", "jsonpath={.status.state}{'\\n'}"],
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.world.environment)
            for line in self.process.stdout:
                if line.strip() and (not self.seen or self.seen[-1] != line.strip()):
                    self.seen.append(line.strip())
            self.process.wait()

    def stop(self):
        self.over = True
        self.process.terminate()
        self.join(10)
        return self.seen


def converged_world(w, **spec):
    """A workspace whose boot had installed alpha, Ready; beta is ready to be declared."""
    alpha, beta = w.plugin("alpha"), w.plugin("beta")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", alpha)], **spec))
    w.boot_install(box, "alpha")
    agent = w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    return box, agent, beta


def check_converged(w, box, agent, states, seconds=60):
    begin = time.monotonic()
    until(seconds, "beta loaded and Ready", lambda: row(w.workspace("a"), "beta").get("loaded") and is_ready(w.workspace("a")))
    print(f"        converged {time.monotonic() - begin:.1f} s after the fault's end", flush=True)
    seen = w.workspace("a")
    expect("alpha's origin", row(seen, "alpha")["origin"], "BootInstalled")
    expect("beta's origin", row(seen, "beta")["origin"], "Delivered")
    expect("rows", sorted(p["name"] for p in seen["status"]["plugins"]), ["alpha", "beta"])
    expect("debt", seen["status"].get("pendingRestart"), None)
    expect("starts of the runtime", agent.boots(), 2)
    expect("beta on the box", (box / "configs/plugins/beta/plugin.yaml").exists(), True)
    if "Offline" in states.stop():
        raise Failed(f"called Offline: {states.seen}")


def the_api_server_is_killed_while_a_plugin_is_delivered(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    w.apply(declared("beta", beta, "a"))
    w.api.part("kill", "apiserver")
    w.api.part("start", "apiserver")
    check_converged(w, box, agent, states)


def the_api_server_is_away_for_longer_than_the_heartbeat_time_out(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    w.api.part("kill", "apiserver")
    time.sleep(8)  # The length of the outage is the input: the time-out is 5 s.
    expect("the operator lives", w.operator.poll(), None)
    w.api.part("start", "apiserver")
    w.apply(declared("beta", beta, "a"))
    check_converged(w, box, agent, states)


def _arenas(pid):
    """The allocator's, beside the first: each reserves 64 MB, of which it opens a part."""
    ranges = [(int(line.split("-")[0], 16), int(line.split("-")[1].split()[0], 16), line.split()[1]) for line in open(f"/proc/{pid}/maps")]
    return sum(a[2] == "rw-p" and b[2] == "---p" and a[1] == b[0] and b[1] - a[0] == 64 << 20 for a, b in zip(ranges, ranges[1:]))


def _used(w):
    """What an outage may not eat: descriptors and threads of the operator, its memory in kB, and the bytes of its log."""
    proc = f"/proc/{w.operator.pid}"
    status = dict(line.split(":", 1) for line in open(f"{proc}/status").read().splitlines())
    return {"descriptors": len(os.listdir(f"{proc}/fd")), "threads": int(status["Threads"]), "memory": int(status["VmRSS"].split()[0]),
            "log": (w.folder / "operator.log").stat().st_size}


def an_outage_of_the_api_server_costs_little_however_long_it_lasts(w):
    box, agent, beta = converged_world(w, heartbeat={"periodSeconds": 1, "timeoutSeconds": 5})
    states = States(w, "a")
    w.api.part("kill", "apiserver")
    time.sleep(OUTAGE_SECONDS / 4)  # Whoever waits for an answer has noticed.
    before = _used(w)
    time.sleep(OUTAGE_SECONDS * 3 / 4)
    after = _used(w)
    minutes = OUTAGE_SECONDS * 3 / 4 / 60
    print(f"        in {minutes * 60:.0f} s: {before} -> {after}", flush=True)
    for what, more in (("descriptors", 8), ("threads", 4), ("memory", 4096), ("log", 4096 + 16384 * minutes)):
        if after[what] > before[what] + more:
            raise Failed(f"{what}: {before[what]} grew to {after[what]} within {minutes:.1f} minutes of an outage")
    # Were there eight a processor, the memory of a process of 40 threads would depend on the machine.
    if _arenas(w.operator.pid) > 3:
        raise Failed(f"{_arenas(w.operator.pid) + 1} arenas of the allocator, where four are shared")
    expect("the operator lives", w.operator.poll(), None)
    w.api.part("start", "apiserver")
    w.apply(declared("beta", beta, "a"))
    check_converged(w, box, agent, states)


def metrics_are_for_who_may_read_them_and_an_outage_lets_nobody_in(w):
    command = w.api.command
    w.api.command = lambda: [*command(), "--metrics-authorization"]
    w.up()
    for name in ("reader", "late", "nobody"):
        w.kubectl("create", "serviceaccount", name)
    token = {name: w.kubectl("create", "token", name).stdout.strip() for name in ("reader", "late", "nobody")}
    w.kubectl("create", "clusterrole", "scrapes", "--verb=get", "--non-resource-url=/metrics")
    w.kubectl("create", "clusterrolebinding", "scrapes", "--clusterrole=scrapes", "--serviceaccount=default:reader", "--serviceaccount=default:late")

    def status(who):
        return w.http("GET", "/metrics", token=who)[0]
    expect("without a token", status(None), 401)
    expect("with a token of nobody's", status("made.up.one"), 401)
    expect("with one that may not", status(token["nobody"]), 403)
    until(30, "the binding counts", lambda: status(token["reader"]) == 200)
    expect("what it says", "informer_objects" in w.http("GET", "/metrics", token=token["reader"])[1].decode(), True)
    w.api.part("kill", "apiserver")
    expect("who was known, while the API is away", status(token["reader"]), 200)
    expect("who was not", status(token["late"]), 503)
    w.api.part("start", "apiserver")
    until(60, "who was not known is let in", lambda: status(token["late"]) == 200)


def the_api_server_hangs(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    w.apply(declared("beta", beta, "a"))
    w.api.part("pause", "apiserver")
    time.sleep(8)
    w.api.part("resume", "apiserver")
    check_converged(w, box, agent, states)


def etcd_is_away_and_the_api_server_answers_with_errors(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    w.apply(declared("beta", beta, "a"))
    w.api.part("kill", "etcd")
    time.sleep(8)
    expect("the operator lives", w.operator.poll(), None)
    w.api.part("start", "etcd")
    w.api.part("wait", "apiserver")
    check_converged(w, box, agent, states)


def settled(w, name):
    """The workspace's resourceVersion, once three heartbeats have not moved it: the runtime reports a moment after its agent."""
    seen = {"version": None, "since": 0.0}

    def quiet():
        version = w.workspace(name)["metadata"]["resourceVersion"]
        if version != seen["version"]:
            seen.update(version=version, since=time.monotonic())
        return time.monotonic() - seen["since"] > 3 and version
    return until(60, f"{name} is not written any more", quiet)


def etcd_is_compacted_while_the_watch_is_away(w):
    box, agent, beta = converged_world(w)
    quiet = w.box("quiet")
    w.apply(workspace("quiet", quiet), declared("gone", beta, "nobody"))
    other = w.agent("quiet")
    until(20, "Ready", lambda: is_ready(w.workspace("quiet")))
    before = settled(w, "quiet")
    states = States(w, "a")
    w.operator.send_signal(signal.SIGSTOP)
    try:
        w.kubectl("delete", "declaredplugins.molecule.ai", "gone")
        w.apply(declared("beta", beta, "a"))
        for n in range(5):
            w.kubectl("create", "configmap", f"filler-{n}")
        w.api.part("compact", "etcd")
        w.api.part("restart", "apiserver")  # Its watch cache begins anew: what the operator saw last is forgotten.
    finally:
        w.operator.send_signal(signal.SIGCONT)
    until(60, "beta loaded", lambda: row(w.workspace("a"), "beta").get("loaded") and is_ready(w.workspace("a")))
    states.stop()  # The operator itself was away for longer than the time-out here.
    expect("starts of the runtime", (agent.boots(), other.boots()), (2, 1))
    expect("a workspace that nothing happened to is not written", w.workspace("quiet")["metadata"]["resourceVersion"], before)


def the_operator_is_paused_for_longer_than_the_heartbeat_time_out(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    w.operator.send_signal(signal.SIGSTOP)
    w.apply(declared("beta", beta, "a"))
    time.sleep(8)
    w.operator.send_signal(signal.SIGCONT)
    check_converged(w, box, agent, states)


def the_operator_is_killed_while_a_plugin_is_delivered(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    w.apply(declared("beta", beta, "a"))
    w.kill_operator()
    w.up()
    check_converged(w, box, agent, states)


def its_rights_are_taken_away_and_given_back(w):
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    binding = json.loads(w.kubectl("get", "clusterrolebinding", "workspace-operator", "-o", "json").stdout)
    w.kubectl("delete", "clusterrolebinding", "workspace-operator")
    w.apply(declared("beta", beta, "a"))
    holds(4, "nothing is delivered, nothing ends", lambda: w.operator.poll() is None)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        binding["metadata"].pop(field, None)
    w.kubectl("create", "-f", "-", stdin=json.dumps(binding))
    check_converged(w, box, agent, states, 90)


def the_api_server_answers_503_for_a_time(w):
    proxy = w.api.through_proxy()
    box, agent, beta = converged_world(w)
    states = States(w, "a")
    proxy.unavailable()
    w.apply(declared("beta", beta, "a"))
    holds(FAULT_SECONDS, "nothing ends, nothing is delivered", lambda: w.operator.poll() is None and not (box / "configs/plugins/beta").exists())
    expect("the fault was there", proxy.answers[503] > 0, True)
    proxy.healthy()
    check_converged(w, box, agent, states, 90)
    asked = proxy.answers[503]
    print(f"        {asked} requests in {FAULT_SECONDS:.0f} s were answered 503", flush=True)
    expect("retries are spaced", asked < 20 + 6 * FAULT_SECONDS, True)
    if "streaming the initial state does not work" in w.log():
        raise Failed("an outage was taken for a server that cannot stream")


def the_watches_lag_so_that_own_writes_are_not_visible(w):
    """What was delivered is not delivered again, and a restart that was made is not made again, however old the watch's view is."""
    proxy = w.api.through_proxy()
    box, agent, beta = converged_world(w)
    gamma = w.plugin("gamma")
    states = States(w, "a")
    proxy.delay_watches(DELAY_SECONDS)
    w.apply(declared("beta", beta, "a"))
    until(DELAY_SECONDS + 60, "beta loaded", lambda: row(w.workspace("a"), "beta").get("loaded"))
    place = (box / "configs/plugins/beta").stat().st_ino
    # Passes on an old view: its resync and a settings file that is read again.
    w.write_settings()
    holds(DELAY_SECONDS + 3, "one delivery, one restart", lambda: agent.boots() == 2 and (box / "configs/plugins/beta").stat().st_ino == place)
    # A new process has no memory of what the old one wrote: it reads, and the watch lags again.
    w.apply(declared("gamma", gamma, "a"))
    until(DELAY_SECONDS + 60, "gamma on the box", lambda: (box / "configs/plugins/gamma").exists())
    w.kill_operator()
    w.start_operator()
    w.wait_operator(DELAY_SECONDS + 15)  # The caches' first content comes as late as everything else.
    until(DELAY_SECONDS + 90, "gamma loaded", lambda: row(w.workspace("a"), "gamma").get("loaded") and is_ready(w.workspace("a")))
    holds(DELAY_SECONDS + 3, "one delivery, one restart", lambda: agent.boots() == 3 and (box / "configs/plugins/beta").stat().st_ino == place)
    proxy.healthy()
    expect("rows", sorted(p["name"] for p in w.workspace("a")["status"]["plugins"]), ["alpha", "beta", "gamma"])
    if "Offline" in states.stop():
        raise Failed(f"called Offline: {states.seen}")


def etcd_is_compacted_during_a_paged_list(w):
    """The list's continuation is gone: the operator begins anew and misses nothing."""
    proxy, count, compacted = w.api.through_proxy(), 600, []
    w.create([declared(f"p{n:03}", "gitea://demo/x#tag:v1", "nobody", suspend=True) for n in range(count)])

    def before(target):
        if "sendInitialEvents" in target:
            return api_proxy.status(422, "Invalid", "sendInitialEvents is forbidden here")
        # On a busy machine the operator may begin anew by itself before the API server is back.
        if "continue=" in target and not proxy.answers[410] and len(compacted) < 5:
            w.kubectl("delete", "declaredplugins.molecule.ai", f"p{len(compacted):03}")
            compacted.append(target)
            w.api.part("compact", "etcd")
            w.api.part("restart", "apiserver")
        return None

    proxy.before = before
    w.start_operator()
    w.url = f"http://127.0.0.1:{w.api.port}"
    cached = 'informer_objects{informer="declaredplugins"}'
    until(120, "the cache is complete", lambda: compacted and f"{cached} {count - len(compacted)}\n" in w.metrics())
    expect("the continuation was answered 410", proxy.answers[410] >= 1, True)
    w.wait_operator()
    w.apply(declared("last", "gitea://demo/x#tag:v1", "nobody", suspend=True))
    until(60, "the watch goes on", lambda: f"{cached} {count - len(compacted) + 1}\n" in w.metrics())


def kubectl_wait_right_after_apply_tells_the_truth(w):
    """Fifty times: a new spec is applied, `kubectl wait` is asked at once; when it returns, the new spec is what is on the box."""
    sources = [w.plugin("alpha", tag=f"v{n}", repository="demo/alpha") for n in range(2)]
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", sources[0])]))
    w.agent("a")
    w.kubectl("wait", "--for=condition=Ready", "workspaces.molecule.ai/a", "--timeout=30s")
    rounds = int(os.environ.get("WO_WAIT_ROUNDS", "50"))
    for n in range(1, rounds + 1):
        w.apply(workspace("a", box, [("alpha", sources[n % 2])]))
        w.kubectl("wait", "--for=condition=Ready", "workspaces.molecule.ai/a", "--timeout=30s")
        readme = (box / "configs/plugins/alpha/README").read_text()
        expect(f"round {n}: what is on the box when wait returns", readme, f"alpha v{n % 2}\n")


if __name__ == "__main__":
    run_all(globals())
