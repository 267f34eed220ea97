"""Real objects in every state that a GitOps tool may meet them in, and what kstatus, Flux and Argo CD must say of each."""
import copy
import json

from sample_worlds import agent_for
from world import condition, declared, is_ready, until, workspace

# State, what kstatus, Flux and Argo CD must say.
EXPECTED = {
    "workspace not seen yet": ("InProgress", "InProgress", "Progressing"),
    "workspace provisioning": ("InProgress", "InProgress", "Progressing"),
    "workspace awaits its agent": ("InProgress", "InProgress", "Progressing"),
    "workspace ready": ("Current", "Current", "Healthy"),
    "workspace ready, spec changed since": ("InProgress", "InProgress", "Progressing"),
    "workspace with a plugin that retrying cannot mend": ("Failed", "Failed", "Degraded"),
    "workspace with a plugin that is retried": ("InProgress", "InProgress", "Progressing"),
    "workspace offline": ("InProgress", "InProgress", "Degraded"),
    "workspace whose external agent is silent": ("InProgress", "Failed", "Degraded"),
    "workspace suspended": ("InProgress", "Current", "Suspended"),
    "workspace terminating": ("Terminating", None, "Progressing"),
    "plugin not seen yet": ("InProgress", "InProgress", "Progressing"),
    "plugin ready": ("Current", "Current", "Healthy"),
    "plugin with a source that is refused": ("Failed", "Failed", "Degraded"),
    "plugin with a source that is retried": ("InProgress", "InProgress", "Progressing"),
    "plugin suspended": ("InProgress", "Current", "Suspended"),
}


def dry_run(world, obj):
    done = world.kubectl("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-o", "json", "-f", "-", stdin=json.dumps(obj))
    return json.loads(done.stdout)


def stalled(obj):
    return condition(obj, "Stalled").get("status") == "True"


def retried(obj):
    return condition(obj, "Ready").get("status") == "False" and condition(obj, "Reconciling").get("status") == "True"


def states(world):
    """Drives real objects into every state and returns them as they are there."""
    good = world.plugin("good")
    seen = {}

    def take(name, read, truth):
        seen[name] = until(40, name, lambda: (lambda obj: obj if truth(obj) else None)(read()))

    first = workspace("ready", world.box("ready"), [("good", good)])
    seen["workspace not seen yet"] = dry_run(world, first)
    seen["plugin not seen yet"] = dry_run(world, declared("fine", good, "ready"))
    world.apply(first)
    take("workspace provisioning", lambda: world.workspace("ready"), lambda w: w.get("status", {}).get("state") == "Provisioning")
    world.agent("ready")
    take("workspace ready", lambda: world.workspace("ready"), is_ready)
    changed = copy.deepcopy(seen["workspace ready"])
    changed["spec"]["model"] = "another"
    changed["metadata"].pop("managedFields", None)
    seen["workspace ready, spec changed since"] = {**changed, "metadata": {**changed["metadata"], "generation": changed["metadata"]["generation"] + 1}}

    far = workspace("far", "/")
    far["spec"]["box"] = {"type": "External"}
    world.apply(far)
    take("workspace awaits its agent", lambda: world.workspace("far"), lambda w: w.get("status", {}).get("state") == "AwaitingAgent")

    world.apply(workspace("refused", world.box("refused"), [("x", "git+https://not.allowed.test/x.git#tag:v1")]))
    world.agent("refused")
    take("workspace with a plugin that retrying cannot mend", lambda: world.workspace("refused"), stalled)

    # A refused connection, not an answer "not found": that may pass.
    closed = "git+https://127.0.0.1:9/x.git#tag:v1"
    world.apply(workspace("retried", world.box("retried"), [("x", closed)]))
    world.agent("retried")
    take("workspace with a plugin that is retried", lambda: world.workspace("retried"), retried)

    world.apply(workspace("gone", world.box("gone")))
    agent = world.agent("gone")
    until(30, "the agent has reported", lambda: world.workspace("gone").get("status", {}).get("state") == "Online")
    agent.stop()
    take("workspace offline", lambda: world.workspace("gone"), lambda w: w["status"]["state"] == "Offline")

    agent_for(world, "far")
    until(30, "the external agent has reported", lambda: world.workspace("far")["status"]["state"] == "Online")
    world.agents[-1].stop()
    take("workspace whose external agent is silent", lambda: world.workspace("far"), lambda w: w["status"]["state"] == "AwaitingAgent")

    world.apply(workspace("still", world.box("still"), suspend=True))
    take("workspace suspended", lambda: world.workspace("still"), lambda w: w.get("status", {}).get("state") == "Suspended")

    held = workspace("held", world.box("held"))
    held["metadata"]["finalizers"] = ["example.com/held"]
    world.apply(held)
    world.kubectl("delete", "workspaces.molecule.ai", "held", "--wait=false")
    take("workspace terminating", lambda: world.workspace("held"), lambda w: "deletionTimestamp" in w["metadata"])
    world.kubectl("patch", "workspaces.molecule.ai", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')

    world.apply(declared("fine", good, "ready"))
    take("plugin ready", lambda: world.declared("fine"), is_ready)
    world.apply(declared("refused", "git+https://not.allowed.test/y.git#tag:v1", "ready"))
    take("plugin with a source that is refused", lambda: world.declared("refused"), stalled)
    world.apply(declared("retried", "git+https://127.0.0.1:9/z.git#tag:v1", "ready"))
    take("plugin with a source that is retried", lambda: world.declared("retried"), retried)
    world.apply(declared("still", good, "far", suspend=True))
    take("plugin suspended", lambda: world.declared("still"), lambda d: d.get("status", {}).get("observedGeneration") == d["metadata"]["generation"])
    return seen
