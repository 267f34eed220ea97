#!/usr/bin/env python3
"""What GitOps tools see, on a real API server with its controller-manager: gitops.py PROGRAM [NAME...]. Needs WO_API=cluster.

kstatus (the library that Flux and others read a status with, test/cluster/modules/kstatus) must say the right word in every state that an object
can be in; a namespace that is deleted must be gone within a minute, whether its boxes can be reached or not. Ends with 'N passed, N failed'.
"""
import json
import os
import pathlib
import shutil
import subprocess
import time

os.environ["WO_CLUSTER_UP"] = "--with controller-manager"  # Namespaces are emptied by it.

from scenarios import expect, run_all  # noqa: E402
from world import CLUSTER, Failed, condition, declared, is_ready, row, until, workspace  # noqa: E402


def kstatus(obj):
    program = pathlib.Path(subprocess.run([CLUSTER / "cache_folder"], check=True, capture_output=True, text=True).stdout.strip()) / "kstatus"
    done = subprocess.run([program], input=json.dumps(obj), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"kstatus: {done.stderr}")
    return done.stdout.split(":")[0]


def reads(w, kind, name, wanted, seconds=20):
    """kstatus says `wanted` within `seconds`, and still says it a while later."""
    until(seconds, f"kstatus of {kind} {name} is {wanted}", lambda: kstatus(w.get(kind, name)) == wanted)


def a_workspace_is_in_progress_then_current(w):
    source = w.plugin("alpha")
    w.up()
    w.apply(workspace("a", w.box("a"), [("alpha", source)]))
    reads(w, "workspaces", "a", "InProgress")
    w.agent("a")
    until(30, "Ready", lambda: is_ready(w.workspace("a")))
    reads(w, "workspaces", "a", "Current")


def a_spec_that_nobody_has_seen_is_in_progress(w):
    source = w.plugin("alpha")
    w.up()
    w.apply(workspace("a", w.box("a"), [("alpha", source)]), declared("d", source, "a", pluginName="alpha"))
    w.agent("a")
    until(30, "Ready", lambda: is_ready(w.workspace("a")) and is_ready(w.declared("d")))
    w.kill_operator()
    newer = w.plugin("alpha", tag="v2")
    w.apply(workspace("a", w.box("a"), [("alpha", newer)]), declared("d", newer, "a", pluginName="alpha"))
    expect("of the workspace", kstatus(w.workspace("a")), "InProgress")
    expect("of the declared plugin", kstatus(w.declared("d")), "InProgress")
    w.up()
    until(40, "Ready again", lambda: is_ready(w.workspace("a")) and is_ready(w.declared("d")))
    reads(w, "workspaces", "a", "Current")
    reads(w, "declaredplugins", "d", "Current")


def what_waiting_cannot_mend_is_failed(w):
    """ST-03: not 'in progress' for ever, and soon."""
    w.up()
    w.plugin("bad")
    w.apply(workspace("late", w.box("late"), provisioning={"deadlineSeconds": 60}), workspace("a", w.box("a")),
            declared("d", "gitea://demo/bad#tag:nope", "a", pluginName="bad"))
    w.agent("a")
    reads(w, "declaredplugins", "d", "Failed")
    reads(w, "workspaces", "late", "InProgress")


def a_suspended_workspace_is_neither_failed_nor_gone(w):
    w.up()
    w.apply(workspace("a", w.box("a")))
    w.agent("a")
    until(30, "Ready", lambda: is_ready(w.workspace("a")))
    w.apply(workspace("a", w.box("a"), suspend=True))
    until(20, "Suspended", lambda: w.workspace("a")["status"]["state"] == "Suspended")
    expect("kstatus", kstatus(w.workspace("a")) in ("InProgress", "Current"), True)
    expect("Reconciling", condition(w.workspace("a"), "Reconciling").get("status", "False"), "False")


def an_object_that_is_being_deleted_is_terminating(w):
    source = w.plugin("alpha")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", source)]))
    w.agent("a")
    until(30, "Ready", lambda: is_ready(w.workspace("a")))
    w.kill_operator()  # Nobody takes the finalizer away.
    w.kubectl("delete", "workspaces.molecule.ai", "a", "--wait=false")
    expect("kstatus", kstatus(w.workspace("a")), "Terminating")
    w.up()
    until(30, "gone", lambda: w.kubectl("get", "workspaces.molecule.ai", "a", check=False).returncode != 0)


def in_namespace(obj, name):
    obj["metadata"]["namespace"] = name
    return obj


def a_deleted_namespace_is_gone_within_a_minute_even_if_its_boxes_are_not_reached(w):
    source = w.plugin("alpha")
    w.settings["timing"]["deletionDeadlineTerminatingNamespaceSeconds"] = 20
    w.write_settings()
    w.up()
    w.kubectl("create", "namespace", "team")
    boxes = [w.box(f"n{n}") for n in range(4)]
    w.apply(*[in_namespace(workspace(f"n{n}", box, [("alpha", source)]), "team") for n, box in enumerate(boxes)],
            in_namespace(declared("d", source, "n0"), "team"))
    until(30, "every box has its token", lambda: all((b / "configs/.molecule/token").exists() for b in boxes))
    for box in boxes[2:]:
        shutil.move(box, str(box) + "-away")
    begin = time.monotonic()
    w.kubectl("delete", "namespace", "team", "--timeout=59s")
    print(f"        the namespace was gone after {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    run_all(globals())
