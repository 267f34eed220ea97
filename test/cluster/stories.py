"""The scenarios of the specification as stories that all go on in one world at once, while a fault strikes: each makes a change (trigger), says
when it has converged (done), and then counts, from what the box itself has noted, restarts against owed ones and deliveries against missing ones.

A story's Workspace lives on from round to round, so that what earlier rounds brought must still be there: `one` and `five` are made anew.
"""
import shutil
import time

from node_world import a_box, base, expect, workspace
from world import Failed, condition, is_ready, row, until

COOL_DOWN = 8
HEARTBEAT = {"periodSeconds": 1, "timeoutSeconds": 10}


def box_of(command="/usr/bin/noting-runtime"):
    return {"image": "localhost/sample:1", **({"container": "agent"} if command else {})}


class Start:
    """One line of /configs/starts."""

    def __init__(self, line):
        self.boot, self.kind, *loads = line.split()
        self.loads = dict(one.split("=", 1) for one in loads)


class Story:
    """A managed Pod with alpha on it, which `added` plugins join in each round."""
    title, name, kind = "", "", "Agent"
    added, owed = (), 1
    spec = {}

    def __init__(self, world):
        self.world, self.round, self.known, self.rows, self.began = world, 0, [], {"alpha"}, 0.0

    # -- what it does

    def setup(self):
        self.world.objects(workspace(self.name, [("alpha", self.world.sources["alpha"])], kind=self.kind, heartbeat=HEARTBEAT,
                                     pod={"image": "localhost/sample:1", **self.pod()}, **self.spec))

    def pod(self):
        return {}

    def settled(self):
        return is_ready(self.seen())

    def before(self):
        """What a round needs before the fault."""

    def begin(self):
        self.round += 1
        self.before()
        self.began, self.uid, self.known = time.monotonic(), self.pod_uid(), self.starts()

    def new(self):
        return [f"{name}-{self.round}" for name in self.added]

    def trigger(self):
        for name in self.new():
            self.world.objects(base.declared(name, self.world.source(name), self.name))

    def done(self):
        seen = self.seen()
        return is_ready(seen) and all(row(seen, name).get("loaded") for name in self.new())

    def finish(self):
        """After the checks of a round."""

    # -- what is seen

    def seen(self):
        return self.world.workspace(self.name)

    def volume(self):
        return self.world.volume(f"{self.name}-box")

    def pod_uid(self):
        return self.world.pod(f"{self.name}-box")["metadata"]["uid"]

    def starts(self):
        file = self.volume() / "starts"
        return [Start(line) for line in file.read_text().splitlines()] if file.exists() else []

    def folder_of(self, name):
        """Which folder it is, as the noting runtime writes it."""
        info = (self.volume() / "plugins" / name).stat()
        return f"{info.st_ino}.{int(info.st_ctime)}"

    def receipt(self, name):
        return base.json.loads((self.volume() / f".molecule/receipts/{name}.json").read_text())

    # -- what must hold

    def check(self, fault):
        """Returns (restarts, owed, deliveries, missing)."""
        seen = self.seen()
        self.rows |= set(self.new())
        expect("rows", {p["name"] for p in seen["status"].get("plugins", [])}, self.rows)
        expect("a debt that is left", seen["status"].get("pendingRestart"), None)
        self.check_history(fault)
        return self.count(fault)

    def check_history(self, fault):
        had, ran = frozenset(), self.uid is not None  # A container that a dying kubelet was just starting may fail to start.
        for _, _, state, running, reason, rows in self.world.watch.since(self.began, self.name):
            if had - rows:
                raise Failed(f"rows were lost for a while: {sorted(had - rows)}")
            had = rows
            ran = ran or running == "True"
            if fault.boxes_live and ran and (state == "Offline" or running == "False"):
                raise Failed(f"called {state}, BoxRunning {running} ({reason}), though its box ran and reported all the time")

    def count(self, fault):
        same_volume = self.pod_uid() == self.uid or self.lasting()
        starts = self.starts()
        lines = starts if same_volume else [None, *starts]
        first = len(self.known) if same_volume else 1
        restarts = owed = 0
        for before, start in zip(lines[first - 1:], lines[first:]):
            if start.kind != "restart":
                continue
            restarts += 1
            owed += before is not None and before.loads != start.loads
        if restarts != owed:
            raise Failed(f"{restarts} restarts, {owed} of them loaded anything new: {[(s.kind, s.loads) for s in starts[-4:]]}")
        if restarts > self.owed or (fault.boxes_live and restarts != self.owed):
            raise Failed(f"{restarts} restarts, {self.owed} owed: {[(s.kind, sorted(s.loads)) for s in starts[-4:]]}")
        loaded = starts[-1].loads if starts else {}
        on_disk = {f.name: self.folder_of(f.name) for f in (self.volume() / "plugins").iterdir() if f.is_dir()}
        expect("what is on the disk and what the last start loaded", loaded, on_disk)
        for name in self.missing():
            if self.receipt(name).get("previousDigest"):
                raise Failed(f"{name} was delivered over itself: {self.receipt(name)}")
        return restarts, self.owed if fault.boxes_live else owed, len([n for n in self.missing() if n in loaded]), len(self.missing())

    def missing(self):
        """What was not on the box when the round began."""
        return self.new()

    def lasting(self):
        """The volume outlives the Pod."""
        return False


class Recorded(Story):
    title, name, owed = "SC-1 what boot-install put there is recorded", "one", 0

    def setup(self):
        pass

    def settled(self):
        return True

    def begin(self):
        self.round += 1
        self.name, self.began, self.uid, self.known = f"one-{self.round}", time.monotonic(), None, []

    def trigger(self):
        Story.setup(self)

    def done(self):
        return is_ready(self.seen())

    def check(self, fault):
        expect("origin", row(self.seen(), "alpha")["origin"], "BootInstalled")
        return super().check(fault)

    def missing(self):
        return ["alpha"]

    def finish(self):
        self.world.k("delete", "workspaces.molecule.ai", self.name, "--wait=false")


class Delivered(Story):
    """On a PersistentVolumeClaim: what is there outlives the Pod, and is not delivered again."""
    title, name, added = "SC-2 two that are declared are delivered with one restart", "two", ("beta", "gamma")

    def setup(self):
        self.world.volume_for("two-box")
        super().setup()

    def pod(self):
        return {"storage": {"size": "1Mi"}}

    def volume(self):
        return self.world.folder / "pv"

    def lasting(self):
        return True


class Repaired(Story):
    title, name, kind = "SC-3 the management plugin is gone: Failed, then repaired", "three", "Platform"
    spec = {"model": "m"}

    def __init__(self, world):
        super().__init__(world)
        self.rows.add("manage")

    def take_away(self):
        shutil.rmtree(self.volume() / "plugins/manage")

    def trigger(self):
        self.take_away()

    def done(self):
        """What the status says is old until the loss is noticed: the box itself must have loaded what is there."""
        loaded = self.starts()[-1].loads.get("manage")
        return loaded == self.folder_of("manage") and is_ready(self.seen()) and row(self.seen(), "manage").get("loaded")

    def check(self, fault):
        expect("gate", condition(self.seen(), "GatePassed")["status"], "True")
        return super().check(fault)

    def check_history(self, fault):
        states = [one[2] for one in self.world.watch.since(self.began, self.name)]
        # A leader that dies between its attempt's stamp and the end of the pass has not written the state yet.
        if "Failed" not in states and fault.boxes_live and not self.world.ended_since(self.began):
            raise Failed(f"it never failed closed: {states}")

    def missing(self):
        return ["manage"]


class CoolingDown(Repaired):
    title, name = "SC-4 the cool-down outlives the process", "four"

    def stamp(self):
        text = self.seen()["status"].get("recovery", {}).get("lastAttemptTime")
        return base.time.strptime(text.split(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S") if text else None

    def before(self):
        self.take_away()
        until(120, "four is repaired before the fault", self.done)
        self.first = self.stamp()

    def check(self, fault):
        second = self.stamp()
        if second != self.first and time.mktime(second) - time.mktime(self.first) < COOL_DOWN - 1:
            raise Failed(f"two attempts within the cool-down of {COOL_DOWN} s: {time.asctime(self.first)}, {time.asctime(second)}")
        if second == self.first and fault.boxes_live:
            raise Failed("it was repaired without an attempt being stamped")
        return super().check(fault)


class Stopped(Story):
    title, name = "SC-5 a Pod that is gone is Stopped, and nothing else is", "five"

    def setup(self):
        pass

    def settled(self):
        return True

    def begin(self):
        self.round += 1
        self.name = f"five-{self.round}"
        self.world.objects(a_box(self.name, "localhost/withagent:1"), workspace(self.name, pod={"podRef": {"name": self.name}}, heartbeat=HEARTBEAT))
        until(150, "five's box runs", lambda: self.box()["status"] == "True")
        self.began = time.monotonic()

    def box(self):
        return condition(self.seen(), "BoxRunning")

    def trigger(self):
        if not self.world.fault.node_away:
            self.world.k("delete", "pod", self.name, "--wait=false")

    def away(self):
        """Instead of the trigger, while nobody on the node can end the Pod."""
        self.world.k("delete", "pod", self.name, "--wait=false")
        until(60, "a Pod that cannot end is Unknown, not Stopped", lambda: self.box()["status"] == "Unknown")

    def done(self):
        return (self.box()["status"], self.box()["reason"]) == ("False", "PodMissing")

    def check(self, fault):
        order = [one[3] for one in self.world.watch.since(self.began, self.name)]
        if "False" in order and set(order[order.index("False"):]) != {"False"}:
            raise Failed(f"Stopped, and then again not: {order}")
        return 0, 0, 0, 0

    def finish(self):
        self.world.k("delete", "workspaces.molecule.ai", self.name, "--wait=false")


class NotEntitled(Story):
    title, name, added = "SC-7 a privileged plugin never reaches an ordinary workspace", "seven", ("ordinary",)

    def trigger(self):
        self.world.objects(base.declared(f"manage-{self.round}", self.world.sources["manage"], self.name, pluginName="manage"))
        super().trigger()

    def done(self):
        seen = self.seen()
        return row(seen, self.new()[0]).get("loaded") and "NotEntitled" in str(seen["status"])

    def check(self, fault):
        if (self.volume() / "plugins/manage").exists():
            raise Failed("the privileged plugin is on the box")
        self.rows |= {p["name"] for p in self.seen()["status"]["plugins"] if p.get("reason") == "NotEntitled"}
        return super().check(fault)

    def finish(self):
        self.world.k("delete", "declaredplugins.molecule.ai", f"manage-{self.round}")


class Swept(Story):
    title, name, added = "SC-8 the sweep says what it examined, and counts rightly", "eight", ("sweep",)

    def setup(self):
        super().setup()
        self.world.k("label", "workspaces.molecule.ai", self.name, "swept=yes", "--overwrite")

    def trigger(self):
        name = self.new()[0]
        self.world.objects(base.declared(name, self.world.source(name), workspaceSelector={"matchLabels": {"swept": "yes"}}))

    def done(self):
        counts = self.world.declared(self.new()[0])["status"].get("workspaces", {})
        return super().done() and (counts.get("matched"), counts.get("ready")) == (1, 1)

    def check(self, fault):
        until(20, "the leader has examined workspaces", lambda: self.world.leader().metric("workspace_operator_sweep_examined") > 0)
        return super().check(fault)


class AskedFor(Story):
    title, name, added = "SC-9 installed is not loaded; Ready needs loaded", "nine", ("manual",)
    spec = {"restart": {"policy": "Manual"}}

    def trigger(self):
        self.asked = False
        super().trigger()

    def done(self):
        seen = self.seen()
        found = row(seen, self.new()[0])
        if found.get("loaded"):
            return is_ready(seen)
        if not self.asked and found.get("reason") == "AwaitingRestartRequest":
            if is_ready(seen):
                raise Failed("Ready before it is loaded")
            expect("restarts before one is asked for", sum(s.kind == "restart" for s in self.starts()[len(self.known):]), 0)
            self.world.k("annotate", "workspaces.molecule.ai", self.name, "--overwrite",
                         "molecule.ai/restart-requested-at=" + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1)))
            self.asked = True
        return False


ALL = [Recorded, Delivered, Repaired, CoolingDown, Stopped, NotEntitled, Swept, AskedFor]
