#!/usr/bin/env python3
"""What a long life costs: soak.py PROGRAM. Rounds of everyday work (workspaces made, plugins declared, replaced, withdrawn, boxes restarted, all
deleted again) for WO_SOAK_SECONDS (default 600), while the operator's memory, descriptors and threads are looked at after each round.
WO_SOAK_BOXES: workspaces of a round (4). With WO_API=cluster on a real API server, with leader election. Ends with 'N passed, N failed'.

What wears a process out is not time but what happens in it. A day's worth of that fits in an hour and a half: the Lease is renewed, boxes
report and objects are looked at again more often, and all watches are ended twice a round. At the end it prints how much of a day each came to; from
5,400 s on, each must come to a whole one.

After a first third, in which caches and pools take their size, memory may grow by 4 MB (the recorder of events remembers the last 4,096) and
256 kB an hour; descriptors and threads by a handful of connections.
"""
import os
import re
import time

from faults import _used
from scenarios import expect, run_all
from world import Failed, declared, is_ready, row, until, workspace

SECONDS = float(os.environ.get("WO_SOAK_SECONDS", "600"))
BOXES = int(os.environ.get("WO_SOAK_BOXES", "4"))
RENEWAL = 0.05  # Seconds between two renewals of the Lease.
RESIDENTS = 4  # Workspaces that stay all the time: what is looked at again and again.
# What one day is at the defaults: a renewal each 2 s, a heartbeat each 30 s, a pass each 300 s (the resync), watches of 7.5 minutes.
DAY = {"renewals of the Lease": 43200, "heartbeats of each box": 2880, "passes of each workspace": 288, "ends of each watch": 192}


def work(w, sources, number, end_watches):
    names = [f"w{number}-{n}" for n in range(BOXES)]
    boxes = {name: w.box(name) for name in names}
    w.apply(*[workspace(name, boxes[name], [("alpha", sources["alpha"][number % 2])]) for name in names])
    agents = [w.agent(name) for name in names]
    w.apply(*[declared(f"beta-{name}", sources["beta"][0], name, pluginName="beta") for name in names])
    for name in names:
        until(60, f"{name} has both", lambda name=name: is_ready(w.workspace(name)) and row(w.workspace(name), "beta").get("loaded"))
    w.apply(*[declared(f"beta-{name}", sources["beta"][1], name, pluginName="beta") for name in names])
    for name in names:
        until(60, f"{name} has the new one", lambda name=name: (boxes[name] / "configs/plugins/beta/README").read_text() == "beta v1\n")
    end_watches()
    w.kubectl("delete", "declaredplugins.molecule.ai", *[f"beta-{name}" for name in names])
    for name in names:
        until(60, f"{name} has none", lambda name=name: not (boxes[name] / "configs/plugins/beta").exists())
    w.kubectl("delete", "workspaces.molecule.ai", *names, "--timeout=60s")
    for agent in agents:
        agent.stop()
        w.agents.remove(agent)
    end_watches()


def _prepare(w):
    """The operator contends for its Lease and watches through a proxy that can end watches. Returns what ends them."""
    if not hasattr(w.api, "through_proxy"):
        return lambda: None  # The embedded server: no Lease, and watches within one process.
    proxy, command = w.api.through_proxy(), w.api.command
    w.api.command = lambda: [*(a for a in command() if a != "--no-leader-election"), "--operator-namespace", w.api.operator_namespace,
                             "--lease-retry-seconds", str(RENEWAL)]
    return proxy.end_watches


def _residents(w, source):
    """Workspaces that stay from the first round to the last."""
    names = [f"resident-{n}" for n in range(RESIDENTS)]
    w.apply(*[workspace(name, w.box(name), [("alpha", source)]) for name in names])
    for name in names:
        w.agent(name)
    for name in names:
        until(60, f"{name} is Ready", lambda name=name: is_ready(w.workspace(name)) and row(w.workspace(name), "alpha").get("loaded"))
    return names


def _counts(w):
    """What has happened since the operator was started; of each box and watch the least that it can have been."""
    text, audit = w.metrics(), sorted(w.folder.glob("cluster/audit*.log"))  # The API server begins a new one each 100 MB.

    def total(name):
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))
    counts = {"heartbeats of each box": total("workspace_operator_heartbeats_recorded") / (RESIDENTS + BOXES),
              "passes of each workspace": total('controller_runtime_reconcile_total{controller="workspace",result="[a-z_]*"}') / (RESIDENTS + BOXES)}
    if audit:
        counts["ends of each watch"] = min(float(n) for n in re.findall(r"^informer_watches_total{[^}]*} (\S+)$", text, re.M)) - 1
        counts["renewals of the Lease"] = 0
        for path in audit:
            with open(path, encoding="utf-8") as log:
                counts["renewals of the Lease"] += sum('"verb":"patch"' in line and '"resource":"leases"' in line for line in log)
    return counts


def a_long_life_costs_no_more_than_a_short_one(w):
    sources = {name: [w.plugin(name, tag=f"v{n}", repository=f"demo/{name}") for n in range(2)] for name in ("alpha", "beta")}
    end_watches = _prepare(w)
    w.up()
    residents = _residents(w, sources["alpha"][0])
    starts = [agent.boots() for agent in w.agents]
    begin, seen, number = time.monotonic(), [], 0
    while time.monotonic() - begin < SECONDS or number < 6:
        work(w, sources, number, end_watches)
        number += 1
        seen.append((time.monotonic() - begin, _used(w)))
    settled = seen[len(seen) // 3:]
    hours = (settled[-1][0] - settled[0][0]) / 3600
    print(f"        {number} rounds in {seen[-1][0]:.0f} s; after the first {seen[0][1]}, after a third {settled[0][1]}, at the end {settled[-1][1]}", flush=True)
    days = {what: count / DAY[what] for what, count in _counts(w).items()}
    print("        of a day: " + ", ".join(f"{what} {part:.2f}" for what, part in days.items()), flush=True)
    for what, more in (("memory", 4096 + 256 * hours), ("descriptors", 8), ("threads", 2)):
        if settled[-1][1][what] > settled[0][1][what] + more:
            raise Failed(f"{what}: {settled[0][1][what]} grew to {settled[-1][1][what]} in {hours:.2f} h")
    expect("the operator lives", w.operator.poll(), None)
    expect("residents that are Ready", [name for name in residents if is_ready(w.workspace(name))], residents)
    expect("starts of their runtimes", [agent.boots() for agent in w.agents], starts)
    if SECONDS >= 5400 and min(days.values()) < 1:
        raise Failed(f"less than a day of {min(days, key=days.get)}")


if __name__ == "__main__":
    run_all(globals())
