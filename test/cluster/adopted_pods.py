"""Boxes that are Pods of somebody else."""
import json
import time

from node_world import a_box, agent_command, base, expect, owned, shown, workspace
from world import condition, holds, is_ready, row, until


def on_claim(w, name, box):
    """The claim that a box's volume is on from now on, whatever becomes of its Pod."""
    w.volume_for(name)
    box["spec"]["volumes"] = [{"name": "c", "persistentVolumeClaim": {"claimName": name}}]
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}


def an_adopted_pod_that_its_owner_makes_anew_is_another_box(w):
    """Nothing that was known of the former Pod counts for the one of its name: neither its rows nor its last heartbeat, fresh as that is, nor its
    debt, nor what an agent says that lives on. The agents here install nothing themselves, and report only when they are told to."""
    alpha, beta = w.plugin("alpha"), w.plugin("beta")
    w.up()
    agent = ("/bin/sh", "-c", 'until [ -f /configs/go ]; do sleep 0.1; done; exec "$@"', "agent", *agent_command(w, "a", "--no-boot-install", "--box-identity", "pod:$(MOLECULE_POD_UID)"))
    box = a_box("owned", "localhost/withagent:1", agent)
    box["spec"]["containers"][0]["env"] = [{"name": "MOLECULE_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]
    w.objects(workspace("a", [("alpha", alpha)], pod={"podRef": {"name": "owned-0"}}, heartbeat={"periodSeconds": 1, "timeoutSeconds": 120}),
              owned("owned", box))

    def go():
        until(60, "its container runs", lambda: w.pod("owned-0")["status"]["containerStatuses"][0]["ready"])
        w.in_pod("owned-0", "touch", "/configs/go", container="main")
    go()
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    w.k("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"spec":{"restart":{"policy":"Manual"}}}')
    w.objects(base.declared("beta", beta, "a"))
    until(60, "a debt of the former box", lambda: w.workspace("a")["status"]["pendingRestart"]["plugins"] == ["beta"])
    former = w.workspace("a")["status"]
    token = w.in_pod("owned-0", "cat", "/configs/.molecule/token", container="main").strip()
    w.k("delete", "pod", "owned-0", "--grace-period=1")

    until(60, "another Pod runs", lambda: w.workspace("a")["status"]["box"]["identity"].split("/")[0] not in former["box"]["identity"]
          and condition(w.workspace("a"), "BoxRunning")["status"] == "True")
    lives_on = {"workspace": f"{w.ns}.a", "bootID": "lives-on", "activeTasks": 0, "box": {"identity": former["box"]["identity"].split("/")[0]}}
    for path in ("register", "heartbeat", "heartbeat"):
        body = json.dumps({**lives_on, "sequence": time.time_ns()}).encode()
        expect(f"{path} of an agent that lives on", w.http("POST", f"/registry/{path}", token, body)[0], 200)
    w.poke("a")
    shown(w, "a", "Provisioning", ("True", "BoxRunning"), "Reason: AwaitingFirstReport Status: Unknown Type: AgentReporting", "waiting for the first heartbeat of this box")
    expect("loaded", row(w.workspace("a"), "alpha").get("loaded", False), False)
    expect("the former agent", w.workspace("a")["status"].get("agent"), None)
    expect("plugins on the new box", w.in_pod("owned-0", "sh", "-c", "ls /configs/plugins 2> /dev/null || true", container="main").split(), [])

    go()
    until(60, "both are missing, and wait for a person", lambda: all(row(w.workspace("a"), n).get("reason") == "AwaitingRestartRequest" for n in ("alpha", "beta")))
    now = w.workspace("a")["status"]
    expect("the debt is of both, and of the new box's boot", (now["pendingRestart"]["plugins"], now["pendingRestart"]["bootID"]), (["alpha", "beta"], now["agent"]["bootID"]))
    expect("another boot", now["agent"]["bootID"] != former["agent"]["bootID"], True)
    expect("starts of the runtime", w.boots("owned-0", "main"), 1)
    w.k("annotate", "workspaces.molecule.ai", "a", "molecule.ai/restart-requested-at=" + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1)))
    until(120, "Ready", lambda: is_ready(w.workspace("a")))
    expect("delivered", [row(w.workspace("a"), n)["origin"] for n in ("alpha", "beta")], ["Delivered", "Delivered"])
    expect("one restart for both", w.boots("owned-0", "main"), 2)
    expect("debt", w.workspace("a")["status"].get("pendingRestart"), None)


def an_adopted_pod_without_an_agent_is_made_anew_once_where_that_is_allowed(w):
    source = w.plugin("alpha")
    w.up()
    box = a_box("owned")
    claim = on_claim(w, "kept", box)
    w.objects(claim, owned("owned", box), workspace("a", [("alpha", source)], pod={"podRef": {"name": "owned-0"}}, provisioning={"deadlineSeconds": 1},
                                                    restart={"policy": "Immediate", "recreate": "Allowed"}))
    before = until(60, "its container runs", lambda: w.pod("owned-0")["status"]["containerStatuses"][0]["ready"] and w.pod("owned-0"))
    until(120, "another Pod", lambda: w.pod("owned-0")["metadata"]["uid"] != before["metadata"]["uid"])
    uid = w.pod("owned-0")["metadata"]["uid"]
    until(120, "alpha is loaded by its start", lambda: row(w.workspace("a"), "alpha").get("loaded"))
    for _ in range(3):
        w.poke("a")
    expect("it was made anew once", w.pod("owned-0")["metadata"]["uid"], uid)
    expect("debt", w.workspace("a")["status"].get("pendingRestart"), None)
    expect("alpha is on the claim", "plugin.yaml" in w.in_pod("owned-0", "ls", "/configs/plugins/alpha", container="main"), True)


def an_adopted_pod_whose_volume_dies_with_it_is_not_made_anew_for_a_plugin(w):
    """It would have to be delivered again, which would owe the next restart, and so on for ever."""
    source = w.plugin("alpha")
    w.up()
    w.objects(owned("owned", a_box("owned")), workspace("a", [("alpha", source)], pod={"podRef": {"name": "owned-0"}}, provisioning={"deadlineSeconds": 1},
                                                       restart={"policy": "Immediate", "recreate": "Allowed"}))
    before = until(60, "its container runs", lambda: w.pod("owned-0")["status"]["containerStatuses"][0]["ready"] and w.pod("owned-0"))
    shown(w, "a", "Failed", ("True", "BoxRunning"), "Reason: RestartUnsupported", "mount a PersistentVolumeClaim at /configs")
    for _ in range(3):
        w.poke("a")
    expect("the Pod is the same", w.pod("owned-0")["metadata"]["uid"], before["metadata"]["uid"])


def an_adopted_pod_with_an_agent_is_looked_after(w):
    source, later = w.plugin("alpha"), w.plugin("beta")
    w.up()
    w.objects(workspace("a", [("alpha", source)], pod={"podRef": {"name": "mine"}, "container": "main"}), a_box("mine", "localhost/withagent:1", agent_command(w, "a")))
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    w.objects(base.declared("beta", later, "a"))
    until(120, "beta loaded", lambda: row(w.workspace("a"), "beta").get("loaded"))
    expect("one restart", w.boots("mine", "main"), 2)
    w.k("delete", "workspaces.molecule.ai", "a", "--timeout=60s")
    expect("the Pod stays", w.pod("mine")["status"]["phase"], "Running")
    expect("our plugins are gone", w.in_pod("mine", "ls", "/configs/plugins", container="main").split(), [])
    expect("and the token", "token" in w.in_pod("mine", "ls", "/configs/.molecule", container="main").split(), False)


def an_adopted_pod_without_an_agent_is_served_by_a_shell_and_cannot_be_restarted(w):
    source = w.plugin("alpha")
    w.up()
    w.objects(a_box("plain"), workspace("a", pod={"podRef": {"name": "plain"}}, provisioning={"deadlineSeconds": 5}))
    until(120, "its container runs", lambda: w.pod("plain")["status"]["containerStatuses"][0]["ready"])
    until(60, "its token is there", lambda: "token" in w.in_pod("plain", "sh", "-c", "ls /configs/.molecule || true", container="main").split())
    w.poke("a")
    expect("all that is brought without a plugin", w.in_pod("plain", "ls", "-A", "/configs/.molecule", container="main").split(), ["token"])
    expect("its mode", w.in_pod("plain", "stat", "-c", "%a", "/configs/.molecule/token", container="main").strip(), "600")
    w.objects(base.declared("alpha", source, "a"))
    until(120, "alpha is delivered through sh and tar", lambda: "plugin.yaml" in w.in_pod("plain", "ls", "/configs/plugins/alpha", container="main"))
    shown(w, "a", "Failed", ("True", "BoxRunning"), "Reason: RestartUnsupported", "run `workspace-operator agent` in it, or set spec.restart.recreate to Allowed")
    holds(3, "it is not Ready", lambda: not is_ready(w.workspace("a")))
    w.k("delete", "workspaces.molecule.ai", "a", "--timeout=60s")
    left = set(w.in_pod("plain", "ls", "-A", "/configs/.molecule", container="main").split())
    expect("what is left of token and helper", left & {"token", "helper"}, set())


def an_adopted_pod_without_a_volume_is_never_delivered_to(w):
    source = w.plugin("alpha")
    w.up()
    w.objects(a_box("bare", volume=False), workspace("a", [("alpha", source)], pod={"podRef": {"name": "bare"}}, provisioning={"deadlineSeconds": 5}))
    until(120, "its container runs", lambda: w.pod("bare")["status"]["containerStatuses"][0]["ready"])
    shown(w, "a", "Failed", ("True", "BoxRunning"), "Reason: PluginsPathNotPersistent", "mount one at /configs")
    w.poke("a")
    expect("the reason stays", row(w.workspace("a"), "alpha").get("reason"), "PluginsPathNotPersistent")
    expect("neither plugin, helper nor token", w.in_pod("bare", "sh", "-c", "ls -A /configs 2> /dev/null || true", container="main").strip(), "")


def a_look_into_a_box_that_a_stop_cuts_short_keeps_no_lease(w):
    """Whoever only looks changes nothing, however long it goes on: the next operator leads at once, not when the Lease has run out."""
    w.election = ["--operator-namespace", w.ns, "--lease-seconds", "15"]
    helper = "#!/bin/sh\nif [ -f /configs/slow ]; then touch /configs/looking; sleep 20; fi\nexec /usr/bin/workspace-operator \"$@\"\n"
    box = a_box("slow", "localhost/withagent:1", ("/bin/sh", "-c", f"mkdir -p /configs/bin; printf '%s' '{helper}' > /configs/bin/workspace-operator; "
                                                  "chmod 755 /configs/bin/workspace-operator; while :; do sleep 1; done"))
    box["spec"]["containers"][0]["env"] = [{"name": "PATH", "value": "/configs/bin:/usr/bin:/bin"}]
    source = w.plugin("alpha")
    w.up()
    w.objects(box, workspace("a", [("alpha", source)], pod={"podRef": {"name": "slow"}}, provisioning={"deadlineSeconds": 5}))
    until(120, "alpha is on the box", lambda: row(w.workspace("a"), "alpha").get("reason") == "RestartUnsupported")
    w.in_pod("slow", "touch", "/configs/slow", container="main")
    w.k("annotate", "workspaces.molecule.ai", "a", f"molecule.ai/reconcile-requested-at={time.time_ns()}")
    until(60, "the box is looked into", lambda: "looking" in w.in_pod("slow", "ls", "/configs", container="main"))
    begin = time.monotonic()
    w.stop_operator()
    expect("who holds the Lease", json.loads(w.k("get", "lease", "workspace-operator", "-o", "json").stdout)["spec"].get("holderIdentity", ""), "")
    w.start_operator()
    until(60, "the next one leads", lambda: w.http("GET", "/metrics")[0] == 200 and w.metric("leader_election_master_status{name=\"workspace-operator\"}") == 1)
    print(f"        handed over within {time.monotonic() - begin:.1f} s")


def a_pod_that_is_another_workspaces_box_is_refused(w):
    """Two that name one Pod: the elder has it. Nor is one adopted that was made for another Workspace."""
    w.up()
    w.objects(a_box("mine", "localhost/withagent:1", agent_command(w, "a")), workspace("a", pod={"podRef": {"name": "mine"}}), workspace("made"))
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    time.sleep(1)  # Its age is told in seconds.
    w.objects(workspace("b", pod={"podRef": {"name": "mine"}}), workspace("c", pod={"podRef": {"name": "made-box"}}))
    shown(w, "b", "Provisioning", ("False", "PodTaken"), "Pod mine is the box of Workspace a already")
    shown(w, "c", "Provisioning", ("False", "PodForeign"), "is the managed box of Workspace made;")
    w.k("delete", "workspaces.molecule.ai", "b", "c", "--timeout=20s")
    holds(3, "a has kept it", lambda: is_ready(w.workspace("a")))


def whoever_adopts_another_pod_gives_the_managed_one_up(w):
    w.up()
    w.objects(workspace("a"))
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    w.objects(a_box("mine", "localhost/withagent:1", agent_command(w, "a")))
    w.k("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"spec":{"box":{"pod":{"image":null,"podRef":{"name":"mine"}}}}}')
    until(60, "the managed Pod is gone", lambda: w.k("get", "pod", "a-box", check=False).returncode != 0)
    until(60, "an Event", lambda: "PodRemoved" in w.k("get", "events").stdout)
    until(150, "Ready in the other one", lambda: is_ready(w.workspace("a")) and w.pod("mine")["metadata"]["uid"] in w.workspace("a")["status"]["box"]["identity"])
