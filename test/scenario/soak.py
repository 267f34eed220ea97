#!/usr/bin/env python3
"""What a long life costs: soak.py PROGRAM. Rounds of everyday work (workspaces made, plugins declared, replaced, withdrawn, boxes restarted, all
deleted again) for WO_SOAK_SECONDS (default 600; a day is 86400), while the operator's memory, descriptors and threads are looked at after each
round. WO_SOAK_BOXES: workspaces of a round (4). With WO_API=cluster on a real API server. Prints the figures; ends with 'N passed, N failed'.

After a first third, in which caches and pools take their size, memory may grow by 4 MB (the recorder of events remembers the last 4,096) and
256 kB an hour; descriptors and threads by a handful of connections.
"""
import os
import sys
import time

from faults import _used
from scenarios import expect, run_all
from world import Failed, declared, is_ready, row, until, workspace

SECONDS = float(os.environ.get("WO_SOAK_SECONDS", "600"))
BOXES = int(os.environ.get("WO_SOAK_BOXES", "4"))


def work(w, sources, number):
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
    w.kubectl("delete", "declaredplugins.molecule.ai", *[f"beta-{name}" for name in names])
    for name in names:
        until(60, f"{name} has none", lambda name=name: not (boxes[name] / "configs/plugins/beta").exists())
    w.kubectl("delete", "workspaces.molecule.ai", *names, "--timeout=60s")
    for agent in agents:
        agent.stop()
    w.agents.clear()


def a_long_life_costs_no_more_than_a_short_one(w):
    sources = {name: [w.plugin(name, tag=f"v{n}", repository=f"demo/{name}") for n in range(2)] for name in ("alpha", "beta")}
    w.up()
    begin, seen, number = time.monotonic(), [], 0
    while time.monotonic() - begin < SECONDS or number < 6:
        work(w, sources, number)
        number += 1
        seen.append((time.monotonic() - begin, _used(w)))
    settled = seen[len(seen) // 3:]
    hours = (settled[-1][0] - settled[0][0]) / 3600
    print(f"        {number} rounds in {seen[-1][0]:.0f} s; after the first {seen[0][1]}, after a third {settled[0][1]}, at the end {settled[-1][1]}", flush=True)
    for what, more in (("memory", 4096 + 256 * hours), ("descriptors", 8), ("threads", 2)):
        if settled[-1][1][what] > settled[0][1][what] + more:
            raise Failed(f"{what}: {settled[0][1][what]} grew to {settled[-1][1][what]} in {hours:.2f} h")
    expect("the operator lives", w.operator.poll(), None)


if __name__ == "__main__":
    run_all(globals())
