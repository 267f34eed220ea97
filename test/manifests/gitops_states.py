"""Real objects in every state that a GitOps tool may meet them in, and what kstatus, Flux and Argo CD must say of each."""
import copy
import json

from sample_worlds import agent_for, changed_settings, management_plugin
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
    "workspace that never reported in time": ("Failed", "Failed", "Degraded"),
    "workspace with many errors": ("InProgress", "InProgress", "Degraded"),
    "workspace with two sources for one plugin": ("Failed", "Failed", "Degraded"),
    "platform workspace whose repair waits for a person": ("Failed", "Failed", "Degraded"),
    "platform workspace whose repair is retried": ("InProgress", "InProgress", "Degraded"),
    "platform workspace without a model": ("Failed", "Failed", "Degraded"),
    "workspace suspended": ("InProgress", "Current", "Suspended"),
    "workspace terminating": ("Terminating", None, "Progressing"),
    "plugin not seen yet": ("InProgress", "InProgress", "Progressing"),
    "plugin ready": ("Current", "Current", "Healthy"),
    "plugin with a source that is refused": ("Failed", "Failed", "Degraded"),
    "plugin with a source that is retried": ("InProgress", "InProgress", "Progressing"),
    "plugin with a rival": ("Failed", "Failed", "Degraded"),
    "plugin suspended": ("InProgress", "Current", "Suspended"),
}


def dry_run(world, obj):
    done = world.kubectl("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-o", "json", "-f", "-", stdin=json.dumps(obj))
    return json.loads(done.stdout)


def stalled(obj):
    return condition(obj, "Stalled").get("status") == "True"


def retried(obj):
    return condition(obj, "Ready").get("status") == "False" and condition(obj, "Reconciling").get("status") == "True"


def state_is(state, reason=None):
    def truth(obj):
        return obj.get("status", {}).get("state") == state and (reason is None or condition(obj, "Ready")["reason"] == reason)
    return truth


def unhappy_states(world, take):
    """Where the box, its agent or two declarations are at fault, not a source."""
    def seen(name):
        return lambda: world.workspace(name)

    world.apply(workspace("late", world.box("late"), provisioning={"deadlineSeconds": 1}))
    take("workspace that never reported in time", seen("late"), state_is("Failed", "ProvisioningTimeout"))

    world.apply(workspace("sick", world.box("sick")))
    world.agent("sick")
    boot = until(30, "the agent has reported", lambda: is_ready(world.workspace("sick")) and world.workspace("sick")["status"]["agent"]["bootID"])
    status = world.box("sick") / "configs/.molecule/runtime-status.json"
    status.write_text(json.dumps({"bootID": boot, "activeTasks": 0, "currentTask": "", "errorRate": 0.9}))
    take("workspace with many errors", seen("sick"), state_is("Degraded"))

    world.plugin("rival", tag="v1"), world.plugin("rival", tag="v2")
    world.apply(workspace("torn", world.box("torn"), [("rival", "gitea://demo/rival#tag:v1")]), declared("rival", "gitea://demo/rival#tag:v2", "torn"))
    world.agent("torn")
    take("workspace with two sources for one plugin", seen("torn"), lambda w: condition(w, "Conflict").get("status") == "True" and state_is("Online")(w))
    take("plugin with a rival", lambda: world.declared("rival"), lambda d: condition(d, "Conflict").get("status") == "True")

    management_plugin(world)
    world.apply(workspace("manual", world.box("manual"), kind="Platform", model="m", restart={"policy": "Manual"}))
    world.agent("manual")
    take("platform workspace whose repair waits for a person", seen("manual"), lambda w: state_is("Failed", "ManagementMissing")(w) and stalled(w))
    world.agent_environment = {"MOLECULE_MODEL": "0"}
    world.apply(workspace("bare", world.box("bare"), kind="Platform", model="m"))
    world.agent("bare")
    world.agent_environment = {}
    take("platform workspace without a model", seen("bare"), state_is("Failed", "ModelMissing"))
    world.settings["privilegedPlugins"][0]["source"] = "git+https://127.0.0.1:9/manage.git#tag:v1"
    changed_settings(world)
    world.apply(workspace("broken", world.box("broken"), kind="Platform", model="m"))
    world.agent("broken")
    take("platform workspace whose repair is retried", seen("broken"), lambda w: state_is("Failed", "ManagementMissing")(w) and retried(w))


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
    unhappy_states(world, take)
    return seen
