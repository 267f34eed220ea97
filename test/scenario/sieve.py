#!/usr/bin/env python3
"""Each write of a workspace's life, with a view that is stale or that has skipped something from that write on: sieve.py PROGRAM [--all | WRITE...]. Real API server.

The writes are not picked by hand: a reference life counts what the operator writes (its events and reviews are not part of it). Then, for the n-th write:
  stale   what the watches bring is held back for some seconds from the answer to that write on, and passes go on meanwhile: resyncs and settings
  skip    the watches end there and begin anew seconds later with a new initial set; in between a declaration came and went, another one that
          was known was deleted, and beta's source was replaced, which nobody saw
After each: what was to be recorded is recorded, beta's last source is on the box, the runtime was started as often as is owed, nothing is left, and the
operator knows of no object that is gone. Without
--all a share of the writes is taken. Ends with 'N passed, N failed'. (The third pattern, a crash at each write, is crash.py.)
"""
import os
import re
import subprocess
import sys
import threading
import time

from scenarios import expect
from world import World, Failed, declared, is_ready, row, until, workspace

SAMPLE = 3
HOLD_SECONDS = 2.5
NOT_OF_A_LIFE = re.compile(r"/(events|leases|tokenreviews|subjectaccessreviews)\b")


class Life:
    def __init__(self, w, number, sources, strike=None, at=0):
        """At the `at`-th write (from 1; 0: never) `strike(life)` is called on a thread of its own."""
        self.w, self.sources, self.name, self.writes, self.at, self.strike = w, sources, f"a{number}", [], at, strike
        self.struck, self.replaced = None, False
        w.api.proxy.written = self._written

    def _written(self, method, target):
        if NOT_OF_A_LIFE.search(target):
            return
        self.writes.append(f"{method} {target.partition('?')[0]}")
        if len(self.writes) == self.at:
            self.struck = threading.Thread(target=self.strike, args=(self,), daemon=True)
            self.struck.start()

    def run(self):
        w, name, beta = self.w, self.name, f"beta-{self.name}"
        box = w.box(name)
        w.boot_install(box, "alpha")
        w.apply(workspace(name, box, [("alpha", self.sources["alpha"])]), declared(f"rests-{name}", self.sources["ghost"], "nobody"))
        until(30, "token", lambda: (box / "configs/.molecule/token").exists())
        agent = w.agent(name)
        until(60, "Ready", lambda: is_ready(w.workspace(name)))
        expect("starts of the runtime before anything is owed", agent.boots(), 1)
        w.apply(declared(beta, self.sources["beta"], name, pluginName="beta"))
        until(60, "Ready with beta", lambda: is_ready(w.workspace(name)) and row(w.workspace(name), "beta").get("loaded"))
        if self.struck:
            self.struck.join()
        text = "beta v1\n" if self.replaced else "beta v0\n"
        until(60, "what is declared is on the box, and loaded", lambda: (box / "configs/plugins/beta/README").read_text() == text
              and is_ready(w.workspace(name)) and row(w.workspace(name), "beta").get("loaded") and not w.workspace(name)["status"].get("pendingRestart"))
        seen = w.workspace(name)
        expect("rows", sorted((p["name"], p["origin"]) for p in seen["status"]["plugins"]), [("alpha", "BootInstalled"), ("beta", "Delivered")])
        owed = agent.boots()
        # One for beta, and one more if it was replaced after it had been delivered.
        expect("starts of the runtime are what is owed", owed in ((2, 3) if self.replaced else (2,)), True)
        w.kubectl("delete", "declaredplugins.molecule.ai", beta, "--ignore-not-found")
        until(60, "beta is gone, the restart made", lambda: not (box / "configs/plugins/beta").exists() and agent.boots() == owed + 1
              and is_ready(w.workspace(name)) and not w.workspace(name)["status"].get("pendingRestart"))
        w.kubectl("delete", "declaredplugins.molecule.ai", f"rests-{name}", "--ignore-not-found")
        w.kubectl("delete", "workspaces.molecule.ai", name, "--timeout=60s")
        if self.struck:
            self.struck.join()
        expect("alpha is left on the box", (box / "configs/plugins/alpha").exists(), False)
        expect("what came and went unseen is on the box", (box / "configs/plugins/ghost").exists(), False)
        expect("starts of the runtime in all", agent.boots(), owed + 1)
        for kind in ("workspaces", "declaredplugins"):
            until(60, f"no {kind} are known", lambda kind=kind: f'informer_objects{{informer="{kind}"}} 0\n' in w.metrics())
        agent.stop()
        w.agents.clear()


def stale(life):
    life.w.api.proxy.freeze_watches(HOLD_SECONDS)
    for _ in range(3):  # Passes on an old view, besides the resyncs.
        time.sleep(HOLD_SECONDS / 4)
        life.w.write_settings()


def skip(life):
    w, beta, ghost = life.w, f"beta-{life.name}", f"ghost-{life.name}"
    w.api.proxy.skip(HOLD_SECONDS)
    w.apply(declared(ghost, life.sources["ghost"], life.name, pluginName="ghost"))
    w.kubectl("delete", "declaredplugins.molecule.ai", ghost)
    w.kubectl("delete", "declaredplugins.molecule.ai", f"rests-{life.name}", "--ignore-not-found")
    if w.kubectl("get", "declaredplugins.molecule.ai", beta, check=False).returncode == 0:
        life.replaced = w.kubectl("patch", "declaredplugins.molecule.ai", beta, "--type=merge", "-p", '{"spec":{"source":"%s"}}' % life.sources["beta v1"],
                                  check=False).returncode == 0
    time.sleep(HOLD_SECONDS)
    w.api.proxy.healthy()


def main():
    if os.environ.get("WO_API") != "cluster":
        sys.exit("sieve.py needs a real API server: WO_API=cluster")
    w, passed, failed = World(sys.argv[1]), 0, 0
    try:
        w.api.through_proxy()
        sources = {"alpha": w.plugin("alpha"), "beta": w.plugin("beta", tag="v0"), "beta v1": w.plugin("beta", tag="v1"), "ghost": w.plugin("ghost")}
        w.up()
        reference = Life(w, 0, sources)
        reference.run()
        writes = reference.writes
        named = [int(word) for word in sys.argv[2:] if word != "--all"]
        # The last ones are not in every life.
        sample = range(1, len(writes) - 2, max(1, len(writes) // SAMPLE))
        chosen = named or (range(1, len(writes) + 1) if "--all" in sys.argv else sample)
        print(f"{len(writes)} writes in a life; {len(chosen)} of them, stale and skipped", flush=True)
        number = 0
        for at in chosen:
            for pattern in (stale, skip):
                number += 1
                begin, life = time.monotonic(), Life(w, number, sources, pattern, at)
                try:
                    life.run()
                    expect("the operator lives", w.operator.poll(), None)
                    if not life.struck:  # Statuses that change one after the other are sometimes written as one.
                        print(f"        {pattern.__name__} from write {at} on: this life had {len(life.writes)}", flush=True)
                        continue
                    passed += 1
                    print(f"ok      {pattern.__name__} from write {at} on, {life.writes[at - 1]} ({time.monotonic() - begin:.1f} s)", flush=True)
                except (Failed, subprocess.CalledProcessError) as error:
                    failed += 1
                    print(f"FAILED  {pattern.__name__} from write {at} on: {error} {getattr(error, 'stderr', '')}\n{life.writes}\n"
                          + w.tail("operator.log", 40), flush=True)
                w.api.proxy.healthy()
    finally:
        w.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or passed < len(chosen) else 0)  # Of two patterns each, at least half have struck.


if __name__ == "__main__":
    main()
