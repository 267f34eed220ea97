#!/usr/bin/env python3
"""The scenarios of the specification, end to end: scenarios.py PROGRAM [NAME...]. Prints one line each; ends with 'N passed, N failed'."""
import base64
import datetime
import inspect
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
import traceback

from world import RUNTIME, World, Failed, condition, declared, holds, is_ready, parts_in_order, row, until, workspace


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: wanted {wanted!r}, observed {got!r}")


def sc1_a_plugin_that_is_on_the_box_is_recorded_and_causes_no_restart(w):
    source = w.plugin("alpha")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", source)]))
    w.boot_install(box, "alpha")
    before = (box / "configs/plugins/alpha").stat().st_ino
    agent = w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    seen = w.workspace("a")
    expect("origin", row(seen, "alpha")["origin"], "BootInstalled")
    expect("loaded", row(seen, "alpha")["loaded"], True)
    for _ in range(3):
        w.poke("a")
    expect("starts of the runtime", agent.boots(), 1)
    expect("the folder is the one that boot made", (box / "configs/plugins/alpha").stat().st_ino, before)
    expect("debt", w.workspace("a")["status"].get("pendingRestart"), None)


def apply_external(w, box, source):
    """The Workspace `a`, External, with the plugin alpha, and its token in the box as an admin copies it."""
    w.apply({**workspace("a", box, [("alpha", source)]), "spec": {"runtime": "sample", "box": {"type": "External"}, "plugins": [{"name": "alpha", "source": source}],
                                                                   "heartbeat": {"periodSeconds": 1, "timeoutSeconds": 5}}})
    token = until(10, "the agent's token", lambda: w.kubectl("get", "secret", "workspace-a-token", "-o", "jsonpath={.data.current}").stdout)
    (box / "configs/.molecule").mkdir(parents=True)
    (box / "configs/.molecule/token").write_bytes(base64.b64decode(token))


def sc1_an_external_box_whose_runtime_is_slow_to_report_is_not_restarted(w):
    source = w.plugin("alpha")
    w.up()
    box = w.box("a")
    apply_external(w, box, source)
    slow, go = w.folder / "slow-runtime", w.folder / "go"
    slow.write_text(f"#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.1; done\nexec {RUNTIME} \"$@\"\n")
    slow.chmod(0o755)
    agent = w.agent("a", flags=["--pull"], boot_install=True, runtime=slow)
    until(20, "installed, and nothing of it reported", lambda: row(w.workspace("a"), "alpha").get("reason") == "ReportedNotLoaded")
    for _ in range(3):  # Passes enough for a restart, had one been owed.
        w.poke("a")
    go.touch()
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    expect("starts that came so far as to load", agent.boots(), 1)
    told = agent.log.read_text()
    expect("starts of the runtime", told.count("runtime started"), 1)
    expect("restarts asked for", told.count("restart asked for"), 0)


def sc6_an_external_box_is_rid_of_what_is_no_longer_declared_and_holds_what_is_pinned(w):
    alpha, beta = w.plugin("alpha"), w.plugin("beta")
    w.up()
    box = w.box("a")
    apply_external(w, box, alpha)
    w.apply({**declared("beta", beta, "a"), "spec": {"workspaceRef": {"name": "a"}, "source": beta, "update": {"policy": "Manual", "intervalSeconds": 60}}})
    agent = w.agent("a", flags=["--pull"], boot_install=True)
    until(30, "Ready with both", lambda: is_ready(w.workspace("a")) and row(w.workspace("a"), "beta").get("loaded"))
    held, starts = (box / "configs/plugins/beta/plugin.yaml").read_text(), agent.boots()
    w.plugin("beta", files={"more": "what nobody has asked for"})
    w.kubectl("annotate", "declaredplugins.molecule.ai", "beta", "molecule.ai/reconcile-requested-at=now")
    until(30, "an update is seen", lambda: row(w.workspace("a"), "beta").get("reason") == "UpdateAvailable")
    w.kubectl("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"spec":{"plugins":[]}}')
    until(30, "alpha is gone", lambda: not (box / "configs/plugins/alpha").exists())
    until(30, "Ready without it", lambda: is_ready(w.workspace("a")) and not row(w.workspace("a"), "alpha") and not w.workspace("a")["status"].get("pendingRestart"))
    expect("starts of the runtime", agent.boots(), starts + 1)
    expect("files of what Manual holds", sorted(p.name for p in (box / "configs/plugins/beta").iterdir() if p.name == "more"), [])
    expect("its manifest", (box / "configs/plugins/beta/plugin.yaml").read_text(), held)


def sc2_convergence_depends_on_state_not_on_having_seen_a_transition(w):
    alpha, beta = w.plugin("alpha"), w.plugin("beta")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", alpha)]))
    agent = w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    # Every event below happens while nobody watches: the operator is dead.
    w.kill_operator()
    shutil.rmtree(box / "configs/plugins/alpha")
    w.up()
    w.apply(declared("beta", beta, "a"))
    until(30, "alpha back and beta there", lambda: (box / "configs/plugins/alpha/plugin.yaml").exists() and (box / "configs/plugins/beta/plugin.yaml").exists())
    until(30, "Ready", lambda: is_ready(w.workspace("a")))
    expect("beta", row(w.workspace("a"), "beta")["origin"], "Delivered")
    if agent.boots() > 4:
        raise Failed(f"{agent.boots()} starts for three changes")


def what_is_declared_for_a_box_is_looked_for_once(w):
    """Not once for each source that becomes known meanwhile."""
    sources = {name: w.plugin(name) for name in ("alpha", "beta", "gamma")}
    w.settings["timing"]["resyncSeconds"] = 3600
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box))
    for name in sources:
        w.boot_install(box, name)
    w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))

    def looks():
        calls = re.findall(r'^workspace_operator_box_calls_total\{call="(probe|adopt|deliver)"[^}]*\} (\S+)$', w.metrics(), re.M)
        return sum(float(count) for _, count in calls)

    w.poke("a")
    before = looks()
    w.apply(*[declared(name, source, "a") for name, source in sources.items()])
    until(20, "their rows", lambda: all(row(w.workspace("a"), name).get("loaded") for name in sources))
    if looks() - before > 2:  # One more where the lookup takes longer than two seconds.
        raise Failed(f"{looks() - before:.0f} looks at the box for three plugins that came together")


def a_tag_has_moved(w, policy):
    """Workspace a has what the tag of demo/alpha said first, and says that there is something newer. Returns alpha's README."""
    source = w.plugin("alpha", files={"README": "one\n"})
    w.up()
    w.apply(workspace("a", w.box("a")), declared("alpha", source, "a", update={"policy": policy}))
    w.agent("a")
    until(30, "Ready", lambda: is_ready(w.workspace("a")) and row(w.workspace("a"), "alpha").get("loaded"))
    w.plugin("alpha", files={"README": "two\n"})
    w.poke("a")
    until(30, "it is only said", lambda: row(w.workspace("a"), "alpha")["reason"] == "UpdateAvailable")
    readme = w.box("a") / "configs/plugins/alpha/README"
    expect("nothing is installed unasked", readme.read_text(), "one\n")
    return readme


def what_is_pinned_is_put_back_at_its_commit_by_an_operator_that_never_had_it(w):
    readme = a_tag_has_moved(w, "Pin")
    approved = row(w.workspace("a"), "alpha")["digest"]
    w.kill_operator()
    shutil.rmtree(w.data / "artifacts")
    shutil.rmtree(readme.parent)
    w.up()
    until(30, "what was approved is back", lambda: readme.read_text() == "one\n")
    until(30, "Ready", lambda: is_ready(w.workspace("a")))
    expect("digest", row(w.workspace("a"), "alpha")["digest"], approved)


def an_update_under_manual_comes_when_it_is_asked_for_however_long_it_waits(w):
    w.settings["timing"]["gatherSeconds"] = 2  # The pass that answers the request only begins to gather.
    w.write_settings()
    readme = a_tag_has_moved(w, "Manual")
    w.poke("a")
    until(30, "what was asked for is there", lambda: readme.read_text() == "two\n")
    until(30, "Ready", lambda: is_ready(w.workspace("a")) and row(w.workspace("a"), "alpha").get("loaded"))
    expect("nothing is left to do", "approvedDigest" in row(w.workspace("a"), "alpha"), False)


def platform_world(w):
    """A management plugin whose digest the settings entitle; the digest is learned from a fetch of an ordinary declaration first."""
    source = w.plugin("manage", mcp=True, files={"bin/manage": "#!/bin/sh\n"})
    w.up()
    w.apply(declared("probe", source, "nobody"))
    digest = until(20, "digest", lambda: w.declared("probe")["status"]["resolved"]["digest"])
    w.kubectl("delete", "declaredplugins.molecule.ai", "probe")
    w.settings["privilegedPlugins"] = [{"name": "manage", "source": source, "allowedDigests": [digest], "management": True}]
    w.settings["timing"]["recoveryCooldownSeconds"] = 4
    w.write_settings()
    until(10, "settings read again", lambda: "settings read again" in w.tail("operator.log", 200))
    return source


def sc3_a_platform_workspace_without_management_fails_closed_and_is_repaired(w):
    platform_world(w)
    box = w.box("p")
    w.apply(workspace("p", box, kind="Platform"))
    agent = w.agent("p")  # Which plugin is the management plugin, the operator says.
    until(20, "Failed while the gate fails", lambda: w.workspace("p")["status"]["state"] == "Failed" or is_ready(w.workspace("p")))
    until(40, "Ready after recovery", lambda: is_ready(w.workspace("p")))
    seen = w.workspace("p")
    expect("gate", condition(seen, "GatePassed")["status"], "True")
    expect("the attempt was stamped", bool(seen["status"].get("recovery", {}).get("lastAttemptTime")), True)
    expect("state", seen["status"]["state"], "Online")
    if agent.boots() > 3:
        raise Failed(f"{agent.boots()} starts of the runtime for one recovery")


def sc3_a_missing_model_fails_closed_and_starts_no_attempt(w):
    platform_world(w)
    w.agent_environment = {"MOLECULE_MODEL": "0"}
    box = w.box("p")
    w.apply(workspace("p", box, kind="Platform"))
    w.agent("p", flags=["--management-plugin", "manage"])
    until(40, "ModelMissing", lambda: condition(w.workspace("p"), "GatePassed").get("reason") == "ModelMissing")
    expect("state", w.workspace("p")["status"]["state"], "Failed")
    attempts = w.workspace("p")["status"].get("recovery", {}).get("attempts", 0)
    holds(6, "no attempt for a missing model", lambda: w.workspace("p")["status"].get("recovery", {}).get("attempts", 0) == attempts)


def sc4_the_cool_down_survives_a_restart_of_the_operator(w):
    platform_world(w)
    w.settings["timing"]["recoveryCooldownSeconds"] = 600
    w.write_settings()
    until(10, "settings read again", lambda: w.tail("operator.log", 400).count("settings read again") >= 2)
    box = w.box("p")
    w.apply(workspace("p", box, kind="Platform"))
    w.agent("p", flags=["--management-plugin", "manage"])
    until(40, "an attempt", lambda: w.workspace("p")["status"]["recovery"]["lastAttemptTime"])
    until(30, "Ready", lambda: is_ready(w.workspace("p")))
    stamp = w.workspace("p")["status"]["recovery"]
    import shutil
    shutil.rmtree(box / "configs/plugins/manage")
    w.kill_operator()
    w.up()
    until(30, "Failed again", lambda: w.workspace("p")["status"]["state"] == "Failed")
    w.poke("p")
    holds(4, "no attempt inside the cool-down", lambda: w.workspace("p")["status"]["recovery"] == stamp)
    expect("nothing delivered", (box / "configs/plugins/manage").exists(), False)


def sc5_stopped_and_unknown_are_two_different_answers(w):
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box))
    agent = w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    away = box.with_name("away")
    box.rename(away)
    w.poke("a")
    expect("a box that cannot be read is Unknown", condition(w.workspace("a"), "BoxRunning")["status"], "Unknown")
    expect("and keeps its state", w.workspace("a")["status"]["state"], "Online")
    away.rename(box)
    w.poke("a")
    expect("back", condition(w.workspace("a"), "BoxRunning")["status"], "True")
    agent.stop()
    until(15, "a stopped box is Offline at once", lambda: w.poke("a") or w.workspace("a")["status"]["state"] == "Offline")
    expect("reason", condition(w.workspace("a"), "BoxRunning")["status"], "False")


def sc7_a_privileged_plugin_never_reaches_an_ordinary_workspace(w):
    source = platform_world(w)
    ordinary = w.plugin("ordinary")
    box = w.box("a")
    w.apply(workspace("a", box), declared("manage", source, "a"), declared("ordinary", ordinary, "a"))
    w.agent("a", boot_install=True)
    until(20, "the ordinary one arrives", lambda: (box / "configs/plugins/ordinary/plugin.yaml").exists())
    until(20, "NotEntitled is shown", lambda: "NotEntitled" in str(w.workspace("a")["status"]) and "NotEntitled" in str(w.declared("manage")["status"]))
    w.poke("a")
    expect("the privileged one is not on the box", (box / "configs/plugins/manage").exists(), False)
    status, _ = w.http("GET", f"/workspaces/default.a/plugins/manage/download", token=(box / "configs/.molecule/token").read_text().strip())
    expect("nor can it be downloaded", status in (403, 404), True)


def sc8_the_sweep_says_how_many_objects_it_examined(w):
    source = w.plugin("alpha")
    w.up()
    w.apply(workspace("a", w.box("a")), declared("alpha", source))
    until(15, "examined", lambda: (w.metric("workspace_operator_sweep_examined") or 0) > 0)
    expect("matched", until(15, "count", lambda: w.declared("alpha")["status"]["workspaces"])["matched"], 1)


def sc9_installed_is_not_loaded_and_ready_needs_loaded(w):
    source = w.plugin("alpha")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, restart={"policy": "Manual"}))
    agent = w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    w.apply(declared("alpha", source, "a"))
    until(20, "a restart is owed and waits for its request",
          lambda: w.workspace("a")["status"].get("pendingRestart") or row(w.workspace("a"), "alpha").get("reason") == "AwaitingRestartRequest")
    holds(3, "Ready is not True while it is not loaded", lambda: not is_ready(w.workspace("a")))
    expect("no restart happened", agent.boots(), 1)
    since = datetime.datetime.fromisoformat(w.workspace("a")["status"]["pendingRestart"]["since"].replace("Z", "+00:00"))
    until(10, "the metrics say since when", lambda: w.metric("workspace_operator_oldest_pending_restart_seconds") == since.timestamp())
    w.kubectl("annotate", "workspaces.molecule.ai", "a", "molecule.ai/restart-requested-at=" + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1)), "--overwrite")
    until(20, "Ready once it is loaded", lambda: is_ready(w.workspace("a")))
    expect("one restart", agent.boots(), 2)
    expect("loaded", row(w.workspace("a"), "alpha")["loaded"], True)
    until(10, "no debt is left in the metrics", lambda: w.metric("workspace_operator_oldest_pending_restart_seconds") == 0)


def bad_sources_are_named_and_block_nobody_else(w):
    good = w.plugin("good")
    w.plugin("bad")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box), declared("good", good, "a"), declared("missing-tag", "gitea://demo/bad#tag:nope", "a", pluginName="missing-tag"),
            declared("missing-repo", "gitea://demo/none#tag:v1", "a", pluginName="missing-repo"))
    w.agent("a")
    until(20, "the good one is loaded", lambda: row(w.workspace("a"), "good").get("loaded"))
    until(15, "RefNotFound", lambda: condition(w.declared("missing-tag"), "SourceResolved").get("reason") == "RefNotFound")
    missing = until(15, "a reason for the missing repository", lambda: condition(w.declared("missing-repo"), "SourceResolved").get("status") == "False"
                    and condition(w.declared("missing-repo"), "SourceResolved"))
    expect("reason and remedy", (missing["reason"], "a private repository needs sourceSecretRef" in missing["message"]), ("SourceUnavailable", True))
    for reason in ("RefNotFound", "SourceUnavailable"):
        until(15, f"one Warning event {reason}", lambda: len([e for e in w.events("a") if e["reason"] == reason and e["type"] == "Warning"]) == 1)
    expect("not Ready", is_ready(w.workspace("a")), False)


def a_private_repository_needs_the_token_of_a_secret(w):
    w.plugin("secret-plugin", repository="private/secret-plugin")
    w.up()
    token = (w.folder / "git/token").read_text().strip()
    w.apply(declared("p", "gitea://private/secret-plugin#tag:v1", "a", sourceSecretRef={"name": "git"}))
    until(15, "SecretMissing", lambda: condition(w.declared("p"), "SourceResolved").get("reason") == "SecretMissing")
    w.kubectl("create", "secret", "generic", "git", "--from-literal=username=reader", f"--from-literal=password={token}")
    w.kubectl("annotate", "declaredplugins.molecule.ai", "p", "molecule.ai/reconcile-requested-at=1", "--overwrite")
    until(20, "resolved", lambda: w.declared("p")["status"]["resolved"]["digest"])
    expect("the token is in no status", token in str(w.declared("p")), False)
    expect("nor in a log", token in (w.folder / "operator.log").read_text(), False)


def deleting_a_workspace_removes_its_plugins_and_ends(w):
    source = w.plugin("alpha")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", source)]))
    (box / "configs/plugins/foreign").mkdir(parents=True, exist_ok=True)
    w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    w.kubectl("delete", "workspaces.molecule.ai", "a", "--timeout=20s")
    expect("removed from the box", (box / "configs/plugins/alpha").exists(), False)
    expect("what is not ours stays", (box / "configs/plugins/foreign").exists(), True)


def an_idle_workspace_is_not_written(w):
    source = w.plugin("alpha")
    w.up()
    w.apply(workspace("a", w.box("a"), [("alpha", source)]))
    w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    w.poke("a")
    version = w.workspace("a")["metadata"]["resourceVersion"]
    holds(6, "resourceVersion under heartbeats and resyncs", lambda: w.workspace("a")["metadata"]["resourceVersion"] == version)


def the_operator_stops_in_order_at_any_moment(w):
    """With WO_STOP_MOMENTS at so many: from the first instant to well after it is ready, with something to do."""
    w.settings["log"] = {"level": "debug"}
    w.write_settings()
    source = w.plugin("alpha")
    w.start_operator()
    w.kill_operator()
    moments = random.Random(int(os.environ.get("WO_STOP_MOMENTS", "4")))
    applied, depths = False, []
    for moment in sorted(moments.uniform(0.02, 1.2) for _ in range(int(os.environ.get("WO_STOP_MOMENTS", "4")))):
        w.start_operator()
        time.sleep(moment)  # The moment is the input here, not a wait for an effect.
        w.stop_operator()
        started = parts_in_order(w.log())
        if w.operator.returncode != 0 and started:
            raise Failed(f"SIGTERM after {moment:.2f} s: exit {w.operator.returncode} with {started} started: {w.log()[-2000:]}")
        depths.append(len(started))
        if started and not applied:
            w.up()
            w.apply(workspace("a", w.box("a"), [("alpha", source)]))
            w.stop_operator()
            applied = True
    print(f"        parts that had been started at the signal: {depths}")
    w.up()
    if not applied:
        w.apply(workspace("a", w.box("a"), [("alpha", source)]))
    w.agent("a")
    until(20, "Ready", lambda: is_ready(w.workspace("a")))
    w.stop_operator()
    if parts_in_order(w.log())[-1] != "workspace-controller":
        raise Failed(f"the last part is {parts_in_order(w.log())[-1]}")


def a_second_signal_ends_the_operator_at_once(w):
    w.up()
    port = int(w.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as half:
        # A request that never ends: the stop waits for it.
        half.sendall(b"POST /registry/heartbeat HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
        w.operator.send_signal(signal.SIGTERM)
        w.operator.send_signal(signal.SIGINT)
        code = w.operator.wait(12)
    if code != 1 or "a second signal" not in w.tail("operator.log"):
        raise Failed(f"two signals: exit {code}")
    w.up()
    w.stop_operator()


def show(world):
    print("---- operator\n" + world.tail("operator.log", 25))
    for agent in world.agents:
        print("---- agent\n" + world.tail(agent.log.name, 15))
    result = world.kubectl("get", "workspaces.molecule.ai,declaredplugins.molecule.ai", "-A", "-o", "yaml", check=False)
    print("---- objects\n" + "\n".join(result.stdout.splitlines()[:200]))


def run_all(defined):
    """Runs every function of `defined` that takes a world and nothing else (not those that begin with _), or those that the command line names."""
    program, chosen = sys.argv[1], sys.argv[2:]
    every = [(n, f) for n, f in defined.items() if inspect.isfunction(f) and f.__module__ == "__main__" and list(inspect.signature(f).parameters) == ["w"]
             and n != "platform_world" and not n.startswith("_")]
    passed = failed = 0
    for name, scenario in every:
        if chosen and not any(c in name for c in chosen):
            continue
        world, begin = None, time.monotonic()
        try:
            world = World(program)
            scenario(world)
            for agent in world.agents:
                agent.stop()
            passed += 1
            print(f"ok      {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
            if not isinstance(error, Failed):
                traceback.print_exc()
                if hasattr(error, "stderr"):
                    print(error.stderr)
            try:
                show(world) if world else None
            except Exception as worse:  # pylint: disable=broad-except
                print(f"cannot be shown: {worse}")  # An API server that does not answer ends one scenario, not all.
        finally:
            if world:
                world.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    run_all(globals())
