#!/usr/bin/env python3
"""The deletion of whole namespaces, on a real API server with its controller-manager: namespace_deletion.py PROGRAM. Needs WO_API=cluster.

A namespace that is deleted is gone within a minute, whether its boxes can be reached or not. Ends with 'N passed, N failed'.
"""
import os
import shutil
import time

os.environ["WO_CLUSTER_UP"] = "--with controller-manager"  # Namespaces are emptied by it.

from scenarios import run_all  # noqa: E402
from world import declared, until, workspace  # noqa: E402


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
