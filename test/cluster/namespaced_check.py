#!/usr/bin/env python3
"""The operator of one namespace, as docs/how-to/install.md has it made: a cluster admin prepares, an admin of the namespace applies manifests/namespaced,
and the program runs on a real API server with the arguments of that Deployment and the rights of its account, nothing more. First without
system:auth-delegator, and everybody who is hurt by that is told; then with it. A Workspace of another namespace is not touched.

All of it over IPv6, as in a cluster that has nothing else: the API server, the heartbeats and what replicas pass on are at [::1]. On a machine without
IPv6 the suite says so and uses 127.0.0.1.

  namespaced_check.py PROGRAM      ends with 'N passed, N failed'
"""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scenario"))
import world as worlds  # noqa: E402
from world import ROOT, Failed, World, condition, is_ready, until, workspace  # noqa: E402

HERE, ELSEWHERE = "team-a", "team-b"
OVERLAY = ROOT / "manifests/namespaced"
ACCOUNT = f"system:serviceaccount:{HERE}:workspace-operator"
LEAD = "lead"  # An admin of the namespace, and of nothing else.


def has_ipv6():
    with socket.socket(socket.AF_INET6) if socket.has_ipv6 else socket.socket() as probe:
        try:
            probe.bind(("::1", 0))
            return True
        except OSError:
            return False


ADDRESS = "::1" if has_ipv6() else "127.0.0.1"
HOST = f"[{ADDRESS}]" if ":" in ADDRESS else ADDRESS


def container(world):
    deployment = json.loads(world.kubectl("get", "deployment", "workspace-operator", "-o", "json").stdout)
    return deployment["spec"]["template"]["spec"]["containers"][0]


class Namespaced(worlds.Cluster):
    operator_namespace = HERE

    def install(self):
        self.kubectl("apply", "--server-side", "-k", OVERLAY / "cluster")
        self.kubectl("wait", "--for=condition=Established", "--timeout=20s", "-f", ROOT / "crds")
        for namespace in (HERE, ELSEWHERE):
            self.kubectl("create", "namespace", namespace)
        self.kubectl("create", "rolebinding", "lead", "-n", HERE, "--clusterrole=admin", f"--user={LEAD}")
        self.kubectl("create", "rolebinding", "workspace-operator-installer", "-n", HERE, "--clusterrole=workspace-operator-installer", f"--user={LEAD}")
        # What the cluster's admin may do grows when the roles for people have joined it.
        until(20, "the admin of the namespace may handle Workspaces", lambda: self.can("patch", "workspaces.molecule.ai", LEAD))
        self.kubectl("apply", "--server-side", "-k", OVERLAY, "--as", LEAD)
        self.kubectl("config", "set-context", "--current", f"--namespace={HERE}")

    def can(self, verb, resource, who):
        done = subprocess.run([worlds.KUBECTL, "--kubeconfig", self.kubeconfig, "auth", "can-i", verb, resource, "-n", HERE, "--as", who],
                              capture_output=True, text=True)
        return done.stdout.startswith("yes")

    def command(self, data=None, port=None):
        """The Deployment's arguments; in the place of its files and its port there are ours."""
        one = container(self.world)
        values = {"POD_NAMESPACE": HERE, "POD_IP": ADDRESS}
        arguments = [a for a in one["args"] if not a.startswith(("--data-dir=", "--settings=", "--http-port=", "--log-format="))]
        for name, value in values.items():
            arguments = [a.replace(f"$({name})", value) for a in arguments]
        if any("$(" in a for a in arguments):
            raise Failed(f"arguments that this suite cannot fill in: {arguments}")
        return [*arguments, "--kubeconfig", self.operator_kubeconfig, "--data-dir", data or self.world.data, "--http-port", str(port or self.port)]


def refused(world):
    """What the API server has forbidden the operator, by (verb, resource); and which namespaces it has asked for."""
    found, namespaces = {}, set()
    for line in (world.api.folder / "audit.log").read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] != ACCOUNT or "objectRef" not in event:
            continue
        namespaces.add(event["objectRef"].get("namespace", ""))
        if event.get("responseStatus", {}).get("code") == 403:
            key = (event["verb"], event["objectRef"]["resource"])
            found[key] = found.get(key, 0) + 1
    return found, namespaces


def in_namespace(namespace, thing):
    thing["metadata"]["namespace"] = namespace
    return thing


def readyz(world):
    status, text = world.http("GET", "/readyz")
    return status, next(c for c in json.loads(text)["checks"] if c["name"] == "reviews")


def beat(world, token):
    """Its answer, (status, body)."""
    body = {"workspace": f"{HERE}.pod", "bootID": "b", "sequence": time.monotonic_ns() // 1_000_000}
    status, text = world.http("POST", "/registry/heartbeat", token, json.dumps(body).encode())
    return status, json.loads(text)


class Story:
    def __init__(self, world):
        self.world = world

    def a_workspace_here_becomes_ready_over_tls(self):
        world = self.world
        world.apply(in_namespace(HERE, workspace("w", world.box("w"), [("good", world.plugin("good"))])),
                    in_namespace(ELSEWHERE, workspace("foreign", world.box("foreign"))))
        until(60, "the token is in the box", lambda: (world.box("w") / "configs/.molecule/token").exists())
        world.agent("w", flags=["--ca-file", world.data / "ca.crt"])
        until(60, "Ready", lambda: is_ready(world.workspace("w")))

    def who_sends_a_token_is_told_what_is_missing(self):
        world = self.world
        box = {"type": "Pod", "pod": {"image": "localhost/box:1"}}
        world.apply(in_namespace(HERE, {**workspace("pod", "/"), "spec": {"runtime": "sample", "box": box}}))
        pod = until(30, "the Pod is made", lambda: json.loads(world.kubectl("get", "pods", "-o", "json").stdout)["items"])[0]["metadata"]
        # What the kubelet would put into the Pod. Nobody runs it here.
        self.agents_token = world.kubectl("create", "token", "default", "--bound-object-kind=Pod", f"--bound-object-name={pod['name']}",
                                          f"--bound-object-uid={pod['uid']}", "--audience=workspace-operator.molecule.ai").stdout.strip()
        world.kubectl("create", "rolebinding", "person", "--clusterrole=edit", f"--serviceaccount={HERE}:person")
        world.kubectl("create", "serviceaccount", "person")
        self.persons_token = world.kubectl("create", "token", "person").stdout.strip()

        def told(status, body):
            return (status == 503 and body["error"] == "reviews_forbidden" and "tokenreviews.authentication.k8s.io" in body["message"]
                    and "system:auth-delegator" in body["message"] and "cluster/auth_delegator.yaml" in body["hint"])

        until(30, "the agent is told", lambda: told(*beat(world, self.agents_token)))
        status, text = world.http("GET", f"/workspaces/{HERE}.w/plugins", self.persons_token)
        if not told(status, json.loads(text)):
            raise Failed(f"a person is told: {status} {text}")
        until(30, "its Workspace says it", lambda: all(
            "what it reports is refused: the API server forbids" in condition(world.workspace("pod"), kind).get("message", "") for kind in ("Ready", "AgentReporting")))
        until(30, "and an Event", lambda: any(e["reason"] == "ReviewsForbidden" and "system:auth-delegator" in e["message"] for e in world.events("pod")))

    def who_is_on_call_sees_it(self):
        world = self.world
        status, check = readyz(world)
        if status != 200 or check["ok"] or not check.get("advisory") or "system:auth-delegator" not in check["problem"]:
            raise Failed(f"/readyz: {status} {check}")
        if world.metric("workspace_operator_reviews_forbidden") != 1:
            raise Failed("the gauge is not 1")
        if world.log().count("tokens cannot be checked") != 1:
            raise Failed("the log does not say it once")
        found, _ = refused(world)
        if set(found) != {("create", "tokenreviews")}:
            raise Failed(f"refused was {found}")

    def the_cluster_admin_mends_it_and_nothing_is_restarted(self):
        world = self.world
        world.kubectl("apply", "-f", OVERLAY / "cluster/auth_delegator.yaml")
        until(30, "the operator's account may", lambda: world.api.can("create", "tokenreviews.authentication.k8s.io", ACCOUNT))
        self.before = refused(world)[0]
        until(30, "the agent in the Pod is let in", lambda: beat(world, self.agents_token)[0] == 200)
        until(30, "its Workspace says it no more", lambda: "refused" not in json.dumps(world.workspace("pod")["status"]["conditions"]))
        body = json.dumps({"name": "good", "source": "gitea://demo/good#tag:v1"}).encode()
        until(30, "a person may declare", lambda: world.http("POST", f"/workspaces/{HERE}.w/plugins", self.persons_token, body)[0] == 202)
        until(10, "/readyz is without it", lambda: readyz(world)[1]["ok"])
        if world.metric("workspace_operator_reviews_forbidden") != 0:
            raise Failed("the gauge is not 0")

    def nothing_else_was_refused_and_the_other_namespace_not_touched(self):
        world = self.world
        world.poke("w")
        found, namespaces = refused(world)
        if found != self.before:
            raise Failed(f"refused with all rights: {found}, before {self.before}")
        if namespaces - {HERE, ""}:
            raise Failed(f"asked for in {namespaces}")
        foreign = json.loads(world.kubectl("get", "workspaces.molecule.ai", "foreign", "-n", ELSEWHERE, "-o", "json").stdout)
        # The generation is the CRD's default.
        if foreign["status"] != {"observedGeneration": -1} or "finalizers" in foreign["metadata"] or list(world.box("foreign").iterdir()):
            raise Failed(f"the Workspace of another namespace was touched: {foreign}")

    def a_replica_that_stands_by_passes_on_to_the_leader(self):
        world = self.world
        folder, port = world.folder / "other", worlds.free_port()
        with open(world.folder / "other.log", "wb") as log:
            other = subprocess.Popen([world.program, *map(str, world.api.command(folder, port)), "--settings", world.folder / "settings.yaml"],
                                     stderr=log)  # POD_IP is in our environment.
        leader = world.url
        try:
            until(30, "the other replica is ready", lambda: re.search(r"\bready\b.*\burl=", (world.folder / "other.log").read_text()))
            if f'url="https://[::]:{port}"' not in (world.folder / "other.log").read_text():
                raise Failed("the log does not say that it listens on all addresses")
            world.url = f"https://{HOST}:{port}"
            status, text = until(20, "the leader's answer", lambda: (lambda a: a if a[0] == 200 else None)(
                world.http("GET", f"/workspaces/{HERE}.w/plugins", self.persons_token)))
            if "good" not in text.decode():
                raise Failed(f"passed on: {status} {text}")
            lease = world.kubectl("get", "lease", "workspace-operator", "-o", "json").stdout
            if f"https://{HOST}:{world.api.port}" not in lease:
                raise Failed(f"the Lease does not name the leader's address: {lease}")
        finally:
            world.url = leader
            other.terminate()
            other.wait(12)

    def a_workspace_is_let_go(self):
        world = self.world
        world.kubectl("delete", "workspaces.molecule.ai", "w", "pod", "--timeout=60s")
        if (world.box("w") / "configs/plugins/good").exists():
            raise Failed("the plugin is still on the box")


def main():
    os.environ.pop("WO_API", None)
    os.environ["WO_CLUSTER_UP"] = "--with controller-manager"  # It joins the roles for people to the cluster's own.
    if HOST == ADDRESS:
        print("NOT RUN over IPv6: this machine has no address ::1")
    else:
        os.environ["WO_CLUSTER_UP"] += " -- --bind-address=::"
    os.environ["POD_IP"] = ADDRESS
    worlds.Embedded, World.namespace = Namespaced, HERE
    world = World(sys.argv[1], {"boxes": {"directoryRoots": ["/"], "agentImage": "localhost/workspace-operator:0",
                                          "agentURL": f"https://workspace-operator.{HERE}.svc:8443"},
                                "runtimes": {"sample": {"command": ["/bin/sleep", "1000"]}}})
    passed, failed = 0, 0
    try:
        os.environ["SSL_CERT_FILE"] = str(world.data / "ca.crt")
        world.api.edit_operator_kubeconfig(server=f"https://{HOST}:{world.api.api_port()}")
        world.up()
        world.url = f"https://{HOST}:{world.api.port}"
        story = Story(world)
        for step in (story.a_workspace_here_becomes_ready_over_tls, story.who_sends_a_token_is_told_what_is_missing, story.who_is_on_call_sees_it,
                     story.the_cluster_admin_mends_it_and_nothing_is_restarted, story.nothing_else_was_refused_and_the_other_namespace_not_touched,
                     story.a_replica_that_stands_by_passes_on_to_the_leader, story.a_workspace_is_let_go):
            begin = time.monotonic()
            step()
            passed += 1
            print(f"ok      {step.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
    except (Failed, subprocess.CalledProcessError, OSError, KeyError) as failure:
        failed = 1
        print(f"{world.tail('operator.log')}\n{refused(world)}\nFAILED  {failure} {getattr(failure, 'stderr', '')}")
        traceback.print_exc()
    finally:
        world.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
