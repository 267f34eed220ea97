"""What can be wrong with the Pod of a Workspace: each time the state, the condition BoxRunning with its reason, and what a person reads in
`kubectl get` and `kubectl describe` of the Workspace.
"""
import json
import os
import subprocess

from node_world import DIR, NODE, a_box, agent_command, expect, overfill, owned, part, pod_template, shown, workspace
from world import Failed, condition, declared, is_ready, until


def an_image_that_is_missing_shows_its_reason(w):
    w.up()
    w.objects(workspace("a", pod={"image": "localhost/nowhere:1"}))
    shown(w, "a", "Provisioning", ("False", "ImagePullBackOff"), "container agent: image localhost/nowhere:1 cannot be had")
    until(20, "an Event", lambda: any(
        e["involvedObject"]["kind"] == "Workspace" and e["reason"] == "ImagePullBackOff" for e in json.loads(w.k("get", "events", "-o", "json").stdout)["items"]))
    # Mended by the user.
    w.k("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"spec":{"box":{"pod":{"image":"localhost/sample:1"}}}}')
    until(150, "Ready once it is mended", lambda: is_ready(w.workspace("a")))


def an_init_container_that_fails_or_has_no_image_says_so(w):
    """The template's own init containers and that of the agent."""
    w.settings["boxes"]["agentImage"] = "localhost/no-agent:1"
    w.write_settings()
    w.up()
    w.objects(workspace("agentless"))
    shown(w, "agentless", "Provisioning", ("False", "ImagePullBackOff"), "container molecule-agent: image localhost/no-agent:1 cannot be had")
    w.settings["boxes"]["agentImage"] = "localhost/operator:1"
    w.write_settings()
    until(30, "settings read again", lambda: "settings read again" in w.log())
    w.poke("agentless")
    until(150, "made anew, with the agent", lambda: is_ready(w.workspace("agentless")))

    def init(name, **more):
        return {"initContainers": [{"name": name, "image": "localhost/box:1", "imagePullPolicy": "Never", **more}]}
    w.objects(pod_template("fails", init("prepare", command=["/bin/sh", "-c", "echo no disk; exit 3"])),
              pod_template("pulls", init("fetch", image="localhost/nowhere:2")),
              workspace("fails", pod={"templateRef": {"name": "fails"}}), workspace("pulls", pod={"templateRef": {"name": "pulls"}}))
    shown(w, "pulls", "Provisioning", ("False", "ErrImageNeverPull"), "container fetch: image localhost/nowhere:2 cannot be had")
    shown(w, "fails", "Provisioning", ("False", "CrashLoopBackOff"), "container prepare: it ended with 3 (Error) again and again; look at its log")


def a_sidecar_that_crashes_is_not_the_box(w):
    """An init container that goes on beside the agent's: what it does is no word about the agent."""
    w.up()
    proxy = {"name": "proxy", "image": "localhost/box:1", "imagePullPolicy": "Never", "restartPolicy": "Always", "command": ["/bin/sh", "-c", "sleep 2; exit 3"]}
    w.objects(pod_template("meshed", {"initContainers": [proxy]}), workspace("a", pod={"templateRef": {"name": "meshed"}}))
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    until(90, "the sidecar is given up for a while", lambda: any(
        c["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" for c in w.pod("a-box")["status"]["initContainerStatuses"]))
    w.poke("a")
    seen = w.workspace("a")
    expect("the box", (seen["status"]["state"], condition(seen, "BoxRunning")["status"]), ("Online", "True"))


def a_pod_that_cannot_be_scheduled_or_crashes_says_so(w):
    w.up()
    w.objects(workspace("a", pod={"templateRef": {"name": "big"}}))
    shown(w, "a", "Provisioning", ("False", "PodTemplateMissing"), "create it or correct spec.box.pod.templateRef")
    w.objects(pod_template("big", resources={"requests": {"cpu": "1000"}}),
              workspace("b", pod={"image": "localhost/operator:1"}),  # It has no shell: the runtime cannot be started.
              workspace("c", pod={"podRef": {"name": "crasher"}}), a_box("crasher", command=("/bin/sh", "-c", "exit 3"), of="c"))
    shown(w, "a", "Provisioning", ("False", "Unschedulable"), "Insufficient cpu")
    shown(w, "b", "Degraded", ("True", "BoxRunning"), "the runtime cannot be started: run /bin/sh")
    shown(w, "c", "Provisioning", ("False", "CrashLoopBackOff"), "container main: it ended with 3 (Error) again and again; look at its log")


def a_template_that_goes_or_goes_wrong_is_told_and_its_pod_kept(w):
    source = w.plugin("alpha")
    w.up()
    w.objects(pod_template("big"), workspace("a", pod={"templateRef": {"name": "big"}}))
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    uid = w.pod("a-box")["metadata"]["uid"]
    w.k("delete", "podtemplate", "big")
    w.poke("a")
    shown(w, "a", "Online", ("True", "PodTemplateMissing"), "the agent reports; PodTemplate", "Pod a-box is kept as it is")
    until(20, "an Event", lambda: any(e["reason"] == "PodTemplateMissing" for e in w.events("a")))
    w.objects(declared("alpha", source, "a"))
    until(60, "plugins are delivered all the same", lambda: is_ready(w.workspace("a")) and w.workspace("a")["status"].get("plugins"))
    w.objects(pod_template("big", {"volumes": [{"name": "mine", "emptyDir": {}}]}, volumeMounts=[{"name": "mine", "mountPath": "/opt/molecule/"}]))
    shown(w, "a", "Online", ("True", "PodTemplateInvalid"), "template.spec.containers[0].volumeMounts[0].mountPath of the PodTemplate is /opt/molecule/")
    w.objects(pod_template("big"))
    shown(w, "a", "Online", ("True", "BoxRunning"))
    expect("the Pod", w.pod("a-box")["metadata"]["uid"], uid)
    expect("passes called failed", [line for line in w.log().splitlines() if "reconcile failed" in line], [])


def an_authority_that_is_away_is_waited_for_and_never_replaced(w):
    pem = w.folder / "authority.pem"
    w.settings["boxes"]["agentCAFile"] = str(pem)
    w.write_settings()
    w.up()
    w.objects(workspace("a"))
    shown(w, "a", "Provisioning", ("False", "AgentCAUnreadable"), "put the authority's PEM there")
    pem.write_text("-----BEGIN CERTIFICATE-----\none\n")
    w.poke("a")
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    pem.unlink()
    w.poke("a")
    expect("what its agent trusts", w.pod("a-box")["metadata"]["annotations"]["molecule.ai/operator-ca"], "-----BEGIN CERTIFICATE-----\none\n")
    expect("and it is well", is_ready(w.workspace("a")), True)


def two_operators_over_one_namespace_are_told_and_do_not_write_by_turns(w):
    """The agent reports to one of them, so that each sees another Workspace; each has an authority of its own."""
    with open(w.folder / "authority.pem", "w", encoding="utf-8") as file:
        file.write("-----BEGIN CERTIFICATE-----\none\n")
    w.settings["boxes"]["agentCAFile"] = str(w.folder / "authority.pem")
    w.write_settings()
    w.up()
    w.objects(workspace("a", heartbeat={"periodSeconds": 1, "timeoutSeconds": 3}))
    until(150, "Ready", lambda: is_ready(w.workspace("a")))
    (w.folder / "other.pem").write_text("-----BEGIN CERTIFICATE-----\nother\n")
    (w.folder / "other.yaml").write_text(json.dumps({**w.settings, "boxes": {**w.settings["boxes"], "agentCAFile": str(w.folder / "other.pem")}}))
    with open(w.folder / "other.log", "wb") as log:
        other = subprocess.Popen([w.program, "run", "--kubeconfig", os.environ["KUBECONFIG"], "--namespace", w.ns, "--data-dir", w.folder / "other",
                                  "--settings", w.folder / "other.yaml", "--http-address", NODE, "--http-port", "0", "--no-leader-election"], stdout=log, stderr=log)
    try:
        until(30, "an Event", lambda: any(e["reason"] == "AnotherOperator" for e in w.events("a")))
        until(120, "and a condition", lambda: condition(w.workspace("a"), "BoxRunning")["reason"] == "AnotherOperator")
    finally:
        other.kill()
        other.wait()
    logs = w.log() + (w.folder / "other.log").read_text()
    given = logs.count("gave a Pod the operator's changed authority")
    if not 2 <= given <= 6:
        raise Failed(f"its authority was given {given} times")


def a_pod_that_the_kubelet_evicts_says_so(w):
    """One that somebody else made is not made anew by us; a managed one is (pod_faults)."""
    w.up()
    box = a_box("full")
    box["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] = "256Mi"  # More than our helper needs.
    w.objects(box, workspace("a", pod={"podRef": {"name": "full"}}))
    until(120, "the box runs", lambda: condition(w.workspace("a"), "BoxRunning")["status"] == "True")
    if not overfill(w.pod("full"), "c", 257 << 20):
        print("        not here: the kubelet cannot measure its file system")
        return
    shown(w, "a", "Provisioning", ("False", "Evicted"), 'Usage of EmptyDir volume "c" exceeds the limit')


def a_volume_that_is_too_small_for_the_helper_says_so_at_once(w):
    """A file system that is full before all of the helper is sent; uploads end with it, and leave no part of themselves."""
    source = w.plugin("alpha")
    w.up()
    box = a_box("small")
    box["spec"]["volumes"][0]["emptyDir"] = {"medium": "Memory", "sizeLimit": "4Mi"}
    w.objects(box, workspace("a", [("alpha", source)], pod={"podRef": {"name": "small"}}))
    until(120, "the box runs", lambda: condition(w.workspace("a"), "BoxRunning").get("status") == "True")
    until(60, "an Event says so", lambda: [e for e in w.events("a") if e["reason"] == "NoSpace" and "no room for the helper" in e["message"]])
    expect("blamed for it", [e["reason"] for e in w.events("a") if e["reason"] == "HelperUnavailable"], [])
    until(30, "nothing is left of it", lambda: not w.in_pod("small", "ls", "-A", "/configs/.molecule/helper", container="main").split())


def a_claim_that_nothing_binds_shows_its_reason(w):
    """There is no provisioner here: what binds a claim is a volume that somebody makes."""
    w.up()
    w.objects(workspace("a", pod={"image": "localhost/sample:1", "storage": {"size": "1Mi"}}))
    shown(w, "a", "Provisioning", ("False", "Unschedulable"), "pod has unbound immediate PersistentVolumeClaims")
    w.volume_for("a-box")
    until(150, "Ready once there is one", lambda: is_ready(w.workspace("a")))


def a_node_that_is_gone_is_told_whatever_its_pods_were_doing(w):
    """`reports` is Ready and its container dies with the node; `unready` runs but has never been Ready; `waits` is in its back-off; `late` is
    bound to the node when that is gone already. Of these three the control plane itself says nothing. `forced` is deleted by force: the agent of the
    former Pod lives on and reports, and no container of the new one has ever run."""
    def reason(name):
        return condition(w.workspace(name), "BoxRunning").get("reason")

    probe = {"exec": {"command": ["/bin/false"]}, "periodSeconds": 1}
    w.up()
    w.objects(workspace("reports", heartbeat={"periodSeconds": 1, "timeoutSeconds": 3}),
              pod_template("unready", readinessProbe=probe), workspace("unready", pod={"templateRef": {"name": "unready"}}),
              workspace("waits", pod={"image": "localhost/nowhere:1"}), workspace("forced", pod={"podRef": {"name": "forced-0"}}),
              owned("forced", a_box("forced", "localhost/withagent:1", agent_command(w, "forced"), of="forced")))
    for name in ("reports", "forced"):
        until(150, f"{name} is Ready", lambda one=name: is_ready(w.workspace(one)))
    until(60, "one is not", lambda: reason("unready") == "ContainerNotReady")
    until(60, "one has no image", lambda: reason("waits") == "ImagePullBackOff")
    part("pause", "kubelet")
    try:
        w.objects(workspace("late"))
        w.k("delete", "pod", "forced-0", "--force", "--grace-period=0")
        containers = [s["containerID"].removeprefix("containerd://") for s in w.pod("reports-box")["status"]["containerStatuses"]]
        subprocess.run(["ctr", "--address", DIR / "run/containerd.sock", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", *containers], check=True, capture_output=True)
        told = ("Unknown", "NodeNotReady")
        shown(w, "unready", "Online", told, "node node-1 does not report")  # Only its kubelet is gone: it reports on.
        shown(w, "waits", "Provisioning", told, "node node-1 does not report")
        shown(w, "late", "Provisioning", told, "node node-1 does not report")
        shown(w, "forced", "Provisioning", told, "node node-1 does not report", "Reason: AwaitingFirstReport Status: Unknown Type: AgentReporting")
        shown(w, "reports", "Offline", told, "and the box cannot be asked: node node-1 does not report")
        w.k("delete", "pod", "unready-box", "--wait=false")
        shown(w, "unready", "Online", told, "when that node is surely off, run `kubectl delete pod unready-box --force`")
    finally:
        part("resume", "kubelet")
    for name in ("reports", "late", "forced"):
        until(150, f"{name} is Ready when the node is back", lambda one=name: is_ready(w.workspace(one)))
    until(60, "made anew, and told for what it is", lambda: reason("unready") == "ContainerNotReady")
    until(60, "it still has no image", lambda: reason("waits") == "ImagePullBackOff")


ALONE = [a_node_that_is_gone_is_told_whatever_its_pods_were_doing]  # Nothing else goes on on that node meanwhile.
