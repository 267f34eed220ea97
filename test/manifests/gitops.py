#!/usr/bin/env python3
"""What GitOps tools see of our objects, in every state, with the tools' own libraries (test/cluster/kstatus); that `kubectl diff` is empty after
convergence for every sample, and the operator owns no field of a spec; that `kubectl wait` right after `kubectl apply` is never early and never
hangs; that an idle object does not change under heartbeats. With WO_API=cluster the API server is a real one.

  gitops.py PROGRAM [actions|states|spec|wait|idle|diff|samples]...   none: all but samples, which makes each sample converge. Ends with 'N passed, N failed'
"""
import json
import os
import pathlib
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/scenario"))
from gitops_states import EXPECTED, states  # noqa: E402
from sample_worlds import check_diff  # noqa: E402
from world import KUBECTL, Failed, World, holds, is_ready, until, workspace  # noqa: E402

GITOPS = ROOT / "manifests/gitops"
WAITS = int(os.environ.get("WO_WAITS", "50"))
OPERATOR = "workspace-operator"  # Its field manager.
IDLE_SECONDS = int(os.environ.get("WO_IDLE_SECONDS", "20"))


def build_reader():
    return subprocess.run([ROOT / "test/cluster/kstatus/build"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def ready_workspace(world):
    """The checks that look at it may run without the states before them."""
    if "ready" not in world.kubectl("get", "workspaces.molecule.ai", "-o", "name").stdout:
        world.apply(workspace("ready", world.box("ready"), [("good", world.plugin("good"))]))
        world.agent("ready")


def check_states(world, reader):
    seen = states(world)
    expressions = world.folder / "expressions.json"
    expressions.write_text(json.dumps(yaml.safe_load((GITOPS / "flux/health_check_exprs.yaml").read_text())))
    done = subprocess.run([reader, expressions, GITOPS / "argocd"], capture_output=True, text=True,
                          input=json.dumps([{"name": name, "object": obj} for name, obj in seen.items()]))
    if done.returncode != 0:
        raise Failed(f"kstatus: {done.stderr}")
    wrong = []
    for said in json.loads(done.stdout):
        kstatus, flux, argo = EXPECTED[said["name"]]
        # Without a status the expressions cannot be evaluated; Flux then goes on waiting.
        if "status" not in seen[said["name"]] and "no such attribute" in said["flux"]:
            said["flux"] = "InProgress"
        if said["kstatus"] not in kstatus or (flux and said["flux"] != flux) or said["argo"] != argo:
            wrong.append(f"{said}; wanted {kstatus}, {flux}, {argo}; conditions "
                         + json.dumps(seen[said["name"]].get("status", {}).get("conditions", [])))
        if said["argo"] in ("Degraded", "Healthy") and not said["message"]:
            wrong.append(f"{said['name']}: Argo CD shows no message")
    missing = set(EXPECTED) - set(seen)
    if wrong or missing:
        raise Failed("\n".join([*wrong, *missing]))
    return f"{len(seen)} states read rightly by kstatus, Flux and Argo CD"


def check_spec(world):
    """The operator owns the status and its finalizer, nothing else; a spec that was applied once is of generation 1."""
    ready_workspace(world)
    until(30, "the operator has answered", lambda: world.workspace("ready")["status"]["state"])
    found = world.kubectl("get", "workspaces.molecule.ai,declaredplugins.molecule.ai", "-o", "json", "--show-managed-fields").stdout
    wrong, ours = [], 0
    for obj in json.loads(found)["items"]:
        name = f"{obj['kind']} {obj['metadata']['name']}"
        if obj["metadata"]["generation"] != 1:
            wrong.append(f"{name} was applied once and has generation {obj['metadata']['generation']}")
        for entry in obj["metadata"]["managedFields"]:
            if not entry["manager"].startswith(OPERATOR):
                continue
            ours += 1
            for member, below in entry["fieldsV1"].items():
                status = member == "f:status" and entry.get("subresource") == "status"
                if not status and not (member == "f:metadata" and set(below) == {"f:finalizers"}):
                    wrong.append(f"{name}: the operator owns {member} {json.dumps(below)}")
    if wrong or not ours:
        raise Failed("\n".join(wrong) or f"no object has a field of {OPERATOR}")
    return f"{ours} entries of the operator in managedFields, none of a spec"


def lua_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return "{" + ",".join(lua_value(item) for item in value) + "}"
    return "{" + ",".join(f"[{json.dumps(key)}]={lua_value(item)}" for key, item in value.items() if item is not None) + "}"


def check_actions():
    """The buttons of Argo CD, as manifests/gitops renders them for argocd-cm, in Debian's Lua."""
    rendered = yaml.safe_load(subprocess.run([KUBECTL, "kustomize", GITOPS], stdout=subprocess.PIPE, text=True, check=True).stdout)["data"]

    for key in (f"resource.customizations.{what}.molecule.ai_{kind}" for what in ("health", "actions") for kind in ("Workspace", "DeclaredPlugin")):
        if key not in rendered:
            raise Failed(f"manifests/gitops does not render {key}")

    def script_of(kind, name):
        actions = yaml.safe_load(rendered[f"resource.customizations.actions.molecule.ai_{kind}"])
        named = {one["name"]: one["action.lua"] for one in actions["definitions"]}
        return actions["discovery.lua"] if name == "discovery" else named[name]

    def run(script, obj):
        text = script_of(obj["kind"], script)
        program = (f"obj = {lua_value(obj)}\nlocal result = (function()\n{text}\nend)()\n"
                   "local function show(v) if type(v) ~= 'table' then return tostring(v) end local keys = {} for k in pairs(v) do keys[#keys + 1] = k end\n"
                   "table.sort(keys) local out = {} for _, k in ipairs(keys) do out[#out + 1] = k .. '=' .. show(v[k]) end return '{' .. table.concat(out, ' ') .. '}' end\n"
                   "print(show(result))")
        done = subprocess.run(["lua5.4", "-"], input=program, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{script}: {done.stderr}")
        return done.stdout

    for kind in ("Workspace", "DeclaredPlugin"):
        if rendered[f"resource.customizations.health.molecule.ai_{kind}"] != (GITOPS / f"argocd/molecule.ai/{kind}/health.lua").read_text():
            raise Failed(f"the rendered health script of {kind} is another than the one that is tried")
    count = 0
    for kind in ("Workspace", "DeclaredPlugin"):
        obj = {"kind": kind, "metadata": {"name": "x"}, "spec": {}}
        paused = {**obj, "spec": {"suspend": True}}
        for script, given, wanted in (("discovery", obj, "resume={disabled=true}"), ("discovery", paused, "resume={disabled=false}"),
                                      ("suspend", obj, "suspend=true"), ("resume", paused, "spec={}"),
                                      ("reconcile", obj, "molecule.ai/reconcile-requested-at=20")):
            count += 1
            if wanted not in run(script, given):
                raise Failed(f"{kind} {script}: {wanted} is not in {run(script, given)}")
    return f"{count} actions"


def check_wait(world):
    """Each round changes the spec; a wait that believed the old status would return before the change was looked at."""
    world.kubectl("delete", "declaredplugins.molecule.ai", "--all")
    ready_workspace(world)
    until(30, "ready without the declarations that cannot be met", lambda: is_ready(world.workspace("ready")))
    for round_number in range(WAITS):
        obj = workspace("ready", world.box("ready"))
        obj["spec"]["model"] = f"model-{round_number}"
        world.apply(obj)
        world.kubectl("wait", "--for=condition=Ready", "workspaces.molecule.ai/ready", "--timeout=30s")
        seen = world.workspace("ready")
        if not is_ready(seen):
            raise Failed(f"round {round_number}: kubectl wait returned on {seen['status']}")
    return f"{WAITS} rounds"


def check_idle(world):
    ready_workspace(world)
    until(30, "ready", lambda: is_ready(world.workspace("ready")))
    world.poke("ready")
    before = world.metric("workspace_operator_heartbeats_recorded")
    version = world.workspace("ready")["metadata"]["resourceVersion"]
    holds(IDLE_SECONDS, "resourceVersion of an idle workspace", lambda: world.workspace("ready")["metadata"]["resourceVersion"] == version)
    beats = world.metric("workspace_operator_heartbeats_recorded") - before
    if beats < IDLE_SECONDS:
        raise Failed(f"only {beats} heartbeats came in {IDLE_SECONDS} s: nothing was proven")
    return f"{IDLE_SECONDS} s and {beats:.0f} heartbeats without a write"


def main():
    chosen = sys.argv[2:] or ["actions", "states", "spec", "wait", "idle", "diff"]
    world = World(sys.argv[1], {"sources": {"allowedHosts": ["127.0.0.1:9"]}, "timing": {"slowRetrySeconds": 30}})
    checks = {"actions": check_actions, "states": lambda: check_states(world, build_reader()), "spec": lambda: check_spec(world), "wait": lambda: check_wait(world),
              "idle": lambda: check_idle(world), "diff": lambda: check_diff(world, False), "samples": lambda: check_diff(world, True)}
    failed = 0
    try:
        world.up()
        for name in chosen:
            try:
                print(f"gitops: {name}:", checks[name](), flush=True)
            except (Failed, subprocess.CalledProcessError) as failure:
                failed += 1
                print(f"FAILED  gitops: {name}: {failure} {getattr(failure, 'stderr', '')}\n{world.tail('operator.log')}", flush=True)
    finally:
        world.close()
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
