#!/usr/bin/env python3
"""SIGKILLs the operator at every failpoint that one whole life of a workspace visits, one at a time: crash.py PROGRAM [--all | PLACE...].

The failpoints are not picked by hand: a reference run prints every place around a call that leaves the process (API write, box, store, source), and
each is then killed at its first visit in a run of its own. After each: what was to be recorded is recorded, what was missing is delivered, the debt is
paid exactly once (the runtime has started at most once more than in the reference run's minimum), no staging is left. Without --all, a fixed share of the
places is taken, so that the suite stays short; every place that the reference run visits must belong to a known port call.
"""
import os
import re
import signal
import subprocess
import sys
import time

from world import World, Failed, declared, is_ready, row, until, workspace

SAMPLE = 14
#: Every call that leaves the process for good has a failpoint of this name: the reference run must visit each.
REQUIRED = ["api.intent", "api.finalizer.add", "api.finalizer.remove", "box.State", "box.Probe", "box.Deliver", "box.Activate", "box.Adopt", "box.Remove",
            "box.Restart", "box.WriteToken", "kube.patch.workspaces.status", "kube.create.secrets"]
if os.environ.get("WO_API") != "cluster":  # There the objects are in a process of their own.
    REQUIRED.append("store.commit")


def keep_up(w):
    """Starts the operator again if the failpoint has killed it."""
    if w.operator.poll() is not None:
        w.start_operator()
        w.wait_operator()


def persist(w, seconds, what, probe):
    def attempt():
        keep_up(w)
        return probe()
    return until(seconds, what, attempt)


def life(w, failpoints):
    """Recorded at boot, delivered, replaced by nothing, withdrawn, deleted."""
    alpha, beta = w.plugin("alpha"), w.plugin("beta")
    w.start_operator(failpoints)
    try:
        w.wait_operator()
    except Failed:
        keep_up(w)
    box = w.box("a")
    w.boot_install(box, "alpha")

    def apply(*objects):
        w.apply(*objects)
        return True
    git = int((w.folder / "git/pid").read_text())
    os.kill(git, signal.SIGSTOP)  # A source that takes longer than a pass waits for it: the box is looked at first, and recorded later.
    try:
        persist(w, 20, "apply", lambda: apply(workspace("a", box, [("alpha", alpha)])))
        persist(w, 20, "token", lambda: (box / "configs/.molecule/token").exists())
        agent = w.agent("a")
        persist(w, 30, "looked at", lambda: row(w.workspace("a"), "alpha").get("reason") == "Resolving")
    finally:
        os.kill(git, signal.SIGCONT)
    persist(w, 30, "Ready", lambda: is_ready(w.workspace("a")))
    persist(w, 20, "declare", lambda: apply(declared("beta", beta, "a")))
    persist(w, 40, "Ready with beta", lambda: is_ready(w.workspace("a")) and row(w.workspace("a"), "beta").get("loaded"))
    seen = w.workspace("a")
    if row(seen, "alpha").get("origin") != "BootInstalled" or row(seen, "beta").get("origin") != "Delivered":
        raise Failed(f"rows: {seen['status']['plugins']}")
    if agent.boots() != 2:
        raise Failed(f"the debt of one delivery was paid with {agent.boots() - 1} restarts")
    if seen["status"].get("pendingRestart"):
        raise Failed(f"a debt is still shown: {seen['status']['pendingRestart']}")
    persist(w, 20, "withdraw", lambda: w.kubectl("delete", "declaredplugins.molecule.ai", "beta", "--ignore-not-found").returncode == 0)
    persist(w, 40, "beta gone and the restart made", lambda: not (box / "configs/plugins/beta").exists() and agent.boots() == 3 and is_ready(w.workspace("a"))
            and not w.workspace("a")["status"].get("pendingRestart"))
    persist(w, 20, "delete", lambda: w.kubectl("delete", "workspaces.molecule.ai", "a", "--ignore-not-found", "--wait=false").returncode == 0)
    persist(w, 30, "workspace gone", lambda: "NotFound" in w.kubectl("get", "workspaces.molecule.ai", "a", check=False).stderr)
    if (box / "configs/plugins/alpha").exists():
        raise Failed("a recorded plugin was left behind")
    left = [p for p in (box / "configs/.molecule").glob("staging/*")]
    if left:
        raise Failed(f"left in staging: {left}")
    if agent.boots() != 3:
        raise Failed(f"{agent.boots()} starts in all, 3 are owed")
    agent.stop()


def places(program):
    w = World(program)
    try:
        life(w, "*=trace")
        names = re.findall(r"^failpoint (\S+)$", (w.folder / "operator.log").read_text(errors="replace"), re.M)
    finally:
        w.close()
    order = list(dict.fromkeys(names))
    missing = [r for r in REQUIRED if not any(n.startswith(r + ".") or n == r for n in order)]
    if missing:
        raise Failed(f"no failpoint is visited around {missing}; visited: {order}")
    return order


def main():
    program, named = sys.argv[1], [word for word in sys.argv[2:] if word != "--all"]
    order = places(program)
    if unknown := set(named) - set(order):
        sys.exit(f"crash.py: no such place: {unknown}; there are: {order}")
    chosen = order if "--all" in sys.argv else named or order[:: max(1, len(order) // SAMPLE)]
    print(f"{len(order)} places around calls that leave the process; {len(chosen)} of them are killed", flush=True)
    failed = 0
    for name in chosen:
        w = World(program)
        begin = time.monotonic()
        try:
            life(w, f"{name}=kill")
            print(f"ok      killed at {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except (Failed, subprocess.CalledProcessError) as error:
            failed += 1
            print(f"FAILED  killed at {name}: {error} {getattr(error, 'stderr', '')}\n" + w.tail("operator.log", 20), flush=True)
        finally:
            w.close()
    print(f"{len(chosen) - failed} of {len(chosen)} crash places end converged, each debt paid exactly once")
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
