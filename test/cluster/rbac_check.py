#!/usr/bin/env python3
"""Runs the operator on a real API server with the rights of manifests/install.yaml and nothing more, drives it through everything that it does,
and compares the audit log with the roles: used minus granted is empty (nothing was refused), granted minus used is empty (nothing is granted in
vain, twice, in all namespaces where its own is enough, or for all names where one is enough). Also the policy on `kind: Platform` and the roles for people.

  rbac_check.py PROGRAM      prints what differs; ends with 'N passed, N failed'
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/scenario"))
import world as worlds  # noqa: E402
from world import Failed, World, declared, free_port, is_ready, until, workspace  # noqa: E402

OWN = "workspace-operator"
ACCOUNT = "system:serviceaccount:workspace-operator:workspace-operator"
# What this version of the API server does not ask for, another that we support does.
ASKED_BY_OTHERS = {("", "pods/exec", "create"): "Kubernetes 1.35 and newer ask for it beside `get`"}


class Installed(worlds.Cluster):
    """The operator is two processes beside the cluster, with the Deployment's account, an election and TLS."""

    def command(self, data=None, port=None):
        return ["run", "--kubeconfig", self.operator_kubeconfig, "--operator-namespace", "workspace-operator", "--data-dir", data or self.world.data,
                "--http-port", str(port or self.port), "--tls", "--tls-name", "workspace-operator", "--tls-authority-seconds", "60",
                "--tls-overlap-seconds", "3", "--tls-certificate-seconds", "20", "--lease-seconds", "3", "--lease-renew-seconds", "2",
                "--lease-retry-seconds", "0.5"]


class Right(typing.NamedTuple):
    """One verb of one rule. namespace None: everywhere; name None: every object."""
    namespace: str | None
    group: str
    resource: str
    verb: str
    name: str | None

    def covers(self, used):
        return (self[1:4] == used[1:4] and self.namespace in (None, used.namespace) and self.name in (None, used.name))

    def __str__(self):
        where = "in all namespaces" if self.namespace is None else f"in {self.namespace}"
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''} {where}{', ' + self.name if self.name else ''}"


# RBAC cannot tie these to a name.
NAMELESS = ("create", "list", "watch", "deletecollection")


def granted(api):
    """The Rights of every role that is bound to the account; one that stands in two roles is there twice."""
    found = []
    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in json.loads(api.kubectl("get", kind, "-A", "-o", "json"))["items"]:
            subjects = binding.get("subjects", [])
            if not any(s["kind"] == "ServiceAccount" and f"system:serviceaccount:{s.get('namespace')}:{s['name']}" == ACCOUNT for s in subjects):
                continue
            role, namespace = binding["roleRef"], binding["metadata"].get("namespace")
            where = ["-n", namespace] if role["kind"] == "Role" else []
            rules = json.loads(api.kubectl(*where, "get", role["kind"].lower(), role["name"], "-o", "json"))["rules"]
            found += [Right(namespace, g, r, v, n) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]
                      for n in rule.get("resourceNames") or [None]]
    return found


def used(api):
    """What was asked for, from the audit log (as Rights; namespace None: of no or of all namespaces), and the requests that were refused."""
    found, refused = set(), []
    for line in (api.folder / "audit.log").read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] != ACCOUNT or "objectRef" not in event:
            continue
        ref = event["objectRef"]
        resource = ref["resource"] + (f"/{ref['subresource']}" if "subresource" in ref else "")
        found.add(Right(ref.get("namespace"), ref.get("apiGroup", ""), resource, event["verb"], ref.get("name")))
        if event.get("responseStatus", {}).get("code") == 403:
            refused.append(f"{event['verb']} {event['requestURI']}")
    return found, refused


def verbs(rights):
    """Without namespaces and names."""
    return {right[1:4] for right in rights}


def too_much(have, need):
    """Sentences on what is granted beyond what was used."""
    for number, right in enumerate(have):
        mine = {one for one in need if right.covers(one)}
        others = have[:number] + have[number + 1:]
        if not mine:
            yield f"never used: {right}"
        elif all(any(other.covers(one) for other in others) for one in mine):
            yield f"granted by another right as well: {right}"
        elif right.namespace is None and {one.namespace for one in mine} == {OWN}:
            yield f"used in one namespace only: {right}"
        elif right.namespace == OWN and right.name is None and right.verb not in NAMELESS and len({one.name for one in mine}) == 1:
            yield f"used on one object only: {right}"


def check_the_comparison():
    """What too_much is for, without a server."""
    def secrets(namespace, verb, name=None):
        return Right(namespace, "", "secrets", verb, name)

    need = {secrets("default", "get", "a"), secrets(OWN, "get", "ca"), secrets(OWN, "update", "ca")}
    fits = [secrets(None, "get"), secrets(OWN, "update", "ca")]
    cases = [("what fits", fits, []), ("granted twice", [*fits, secrets(OWN, "get", "ca")], ["by another"]), ("never used", [*fits, secrets(OWN, "delete")], ["never"]),
             ("everywhere for nothing", [fits[0], secrets(None, "update", "ca")], ["one namespace"]), ("no name", [fits[0], secrets(OWN, "update")], ["one object"])]
    for what, have, wanted in cases:
        said = list(too_much(have, need))
        if len(said) != len(wanted) or not all(part in sentence for part, sentence in zip(wanted, said)):
            raise Failed(f"the comparison is wrong on {what}: {said}")


def drive(world):
    """Everything that the operator does with the API."""
    api = world.api
    ca = world.data / "ca.crt"
    os.environ["SSL_CERT_FILE"] = str(ca)
    rounds = []
    good = world.plugin("good")
    api.kubectl("create", "secret", "generic", "read", "-n", "default", "--from-literal=username=u", "--from-literal=password=p")
    world.apply(workspace("w", world.box("w"), [("good", good)]))
    until(60, "the token is in the box", lambda: (world.box("w") / "configs/.molecule/token").exists())
    world.agent("w", flags=["--ca-file", ca])
    until(60, "ready over TLS with the account's rights", lambda: is_ready(world.workspace("w")))

    world.plugin("more")
    world.apply(declared("more", "gitea://demo/more#tag:v1", "w", sourceSecretRef={"name": "read"}))
    until(60, "a DeclaredPlugin is ready", lambda: is_ready(world.declared("more")))

    # A person's way in: TokenReview, SubjectAccessReview, then a DeclaredPlugin that is made and taken back.
    world.plugin("asked")
    api.kubectl("create", "serviceaccount", "person", "-n", "default")
    api.kubectl("create", "rolebinding", "person", "-n", "default", "--clusterrole=edit", "--serviceaccount=default:person")
    token = api.kubectl("create", "token", "person", "-n", "default").strip()
    body = json.dumps({"name": "asked", "source": "gitea://demo/asked#tag:v1"}).encode()
    until(30, "the editor may declare (roles are aggregated)", lambda: world.http("POST", "/workspaces/default.w/plugins", token, body)[0] in (202, 409))
    until(60, "it is installed", lambda: (world.box("w") / "configs/plugins/asked").is_dir())
    status, text = world.http("DELETE", "/workspaces/default.w/plugins/asked", token)
    if status != 202:
        raise Failed(f"DELETE of a declaration: {status} {text}")

    # The same event twice becomes a series: a plugin that somebody removes from the box is delivered again each time.
    plugin = world.box("w") / "configs/plugins/good"
    while ("events.k8s.io", "events", "patch") not in verbs(used(api)[0]):
        shutil.rmtree(plugin)
        rounds.append(1)
        if len(rounds) > 5:
            events = [(e["reason"], e["note"], e.get("series")) for e in json.loads(world.kubectl("get", "events.events.k8s.io", "-o", "json").stdout)["items"]]
            raise Failed(f"no event became a series: {events}")
        world.poke("w")
        until(60, "the plugin is back", lambda: plugin.is_dir() and is_ready(world.workspace("w")))


def drive_pods(world):
    """A managed Pod. Nobody runs it here: its status is written by hand, and exec ends at a kubelet that is not there; the API server has asked
    for the right before that."""
    api = world.api
    box = {"type": "Pod", "pod": {"image": "localhost/box:1", "storage": {"size": "1Mi"}}}
    world.apply({**workspace("pod", "/"), "spec": {"runtime": "sample", "box": box}})
    name = until(30, "the Pod is made", lambda: json.loads(api.kubectl("get", "pods", "-o", "json"))["items"])[0]["metadata"]["name"]
    until(30, "the claim is made", lambda: json.loads(api.kubectl("get", "pvc", "-o", "json"))["items"])
    running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
        {"name": "agent", "ready": True, "restartCount": 0, "image": "x", "imageID": "x", "containerID": "containerd://1", "started": True,
         "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}
    api.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": running}))
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t", "namespace": "default"},
                "template": {"spec": {"containers": [{"name": "agent", "image": "localhost/box:1", "command": ["/bin/sleep", "1000"]}]}}}
    world.apply(template, {**workspace("templated", "/"), "spec": {"box": {"type": "Pod", "pod": {"templateRef": {"name": "t"}}}}})
    world.apply({**workspace("adopted", "/"), "spec": {"box": {"type": "Pod", "pod": {"podRef": {"name": "nobody"}}}}})
    until(60, "exec was tried", lambda: ("", "pods/exec", "get") in verbs(used(api)[0]))
    # Bound to a node, and not Ready: the node has to tell whether it reports.
    world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bound", "namespace": "default", "labels": {"molecule.ai/workspace": "bound"}},
                 "spec": {"nodeName": "nowhere", "containers": [{"name": "agent", "image": "localhost/box:1"}]}},
                {**workspace("bound", "/"), "spec": {"box": {"type": "Pod", "pod": {"podRef": {"name": "bound"}}}}})
    until(60, "its node was read", lambda: ("", "nodes", "get") in verbs(used(api)[0]))
    # Another authority than the one that the Pod knows.
    api.kubectl("annotate", "pod", name, "--overwrite", "molecule.ai/operator-ca=of another time")
    until(60, "the Pod was given the authority", lambda: ("", "pods", "patch") in verbs(used(api)[0]))
    # Another image: the old Pod goes, a new one comes.
    box["pod"]["image"] = "localhost/box:2"
    world.apply({**workspace("pod", "/"), "spec": {"runtime": "sample", "box": box, "restart": {"recreate": "Allowed"}}})
    until(90, "a Pod was replaced", lambda: ("", "pods", "delete") in verbs(used(api)[0]))


def check_platform(world):
    """Only who may `use` workspaces/platform makes a Platform workspace or changes the spec of one."""
    api = world.api
    api.kubectl("create", "rolebinding", "eve", "-n", "default", "--clusterrole=admin", "--user=eve")
    platform = json.dumps({**workspace("p", world.box("p")), "spec": {**workspace("p", world.box("p"))["spec"], "kind": "Platform", "model": "m"}})
    agent = json.dumps(workspace("a", world.box("a")))

    def eve(*arguments, stdin=None):
        return subprocess.run([worlds.KUBECTL, "--as", "eve", *arguments], input=stdin, capture_output=True, text=True, env=world.environment)

    until(30, "the admin of a namespace makes an Agent workspace", lambda: eve("apply", "-f", "-", stdin=agent).returncode == 0)
    # A policy takes a moment to be known to the API server.
    denied = until(30, "a Platform workspace is refused", lambda: (lambda d: d if d.returncode != 0 else None)(
        eve("create", "--dry-run=server", "-f", "-", stdin=platform)))
    if "must be allowed the verb `use` on workspaces.molecule.ai/platform" not in denied.stderr:
        raise Failed(f"the refusal does not say why: {denied.stderr}")
    if eve("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"spec":{"kind":"Platform"}}').returncode == 0:
        raise Failed("an Agent workspace was made Platform")
    world.kubectl("apply", "-f", "-", stdin=platform)
    if eve("patch", "workspaces.molecule.ai", "p", "--type=merge", "-p", '{"spec":{"model":"x"}}').returncode == 0:
        raise Failed("the spec of a Platform workspace was changed")
    if eve("annotate", "workspaces.molecule.ai", "p", "note=yes").returncode != 0:
        raise Failed("an annotation of a Platform workspace was refused")
    api.kubectl("create", "rolebinding", "eve-platform", "-n", "default", "--clusterrole=workspace-operator-platform", "--user=eve")
    until(30, "allowed with the role", lambda: eve("patch", "workspaces.molecule.ai", "p", "--type=merge", "-p", '{"spec":{"model":"x"}}').returncode == 0)


def check_people(world):
    api = world.api
    wanted = [("view", "get", "workspaces", True), ("view", "create", "workspaces", False), ("edit", "create", "declaredplugins", True),
              ("edit", "deletecollection", "workspaces", False), ("edit", "patch", "workspaces/status", False),
              ("admin", "deletecollection", "workspaces", True), ("admin", "use", "workspaces/platform", False)]
    for role in ("view", "edit", "admin"):
        api.kubectl("create", "rolebinding", f"is-{role}", "-n", "default", f"--clusterrole={role}", f"--user={role}er")

    def can(role, verb, resource):
        name, _, sub = resource.partition("/")
        return world.kubectl("auth", "can-i", verb, f"{name}.molecule.ai", *([f"--subresource={sub}"] if sub else []), "--as", f"{role}er",
                             check=False).stdout.startswith("yes")

    for role, verb, resource, truth in wanted:
        until(20, f"{role}: {verb} {resource} is {truth}", lambda: can(role, verb, resource) == truth)


def main():
    check_the_comparison()
    worlds.Embedded = Installed
    os.environ.pop("WO_API", None)
    # A server without streaming lists (older than 1.34, or switched off): objects are listed, then watched. With them `list` is not asked for.
    os.environ["WO_CLUSTER_UP"] = "--with controller-manager -- --feature-gates=WatchList=false"
    pods = "install-agent" in subprocess.run([sys.argv[1], "--help"], capture_output=True, text=True).stdout
    world = World(sys.argv[1], {"boxes": {"directoryRoots": ["/"], "agentImage": "localhost/workspace-operator:0", "agentURL": "https://workspace-operator:8443"},
                                "runtimes": {"sample": {"command": ["/bin/sleep", "1000"]}}} if pods else {})
    other = None
    try:
        world.up()
        data = world.folder / "other"
        with open(world.folder / "other.log", "wb") as log:
            other = subprocess.Popen([str(a) for a in [world.program, *world.api.command(data, free_port()), "--settings", world.folder / "settings.yaml"]],
                                     stderr=log)
        until(30, "the other replica is ready", lambda: other.poll() is not None or " ready " in (world.folder / "other.log").read_text())
        if other.poll() is not None:
            raise Failed(f"the other replica ended with {other.returncode}")
        drive(world)
        if pods:
            drive_pods(world)
        check_platform(world)
        check_people(world)
        until(90, "the authority is rotated", lambda: ("", "secrets", "update") in verbs(used(world.api)[0]))
        # The leader goes, the other takes over; then everything is deleted.
        def holder():
            return json.loads(world.kubectl("-n", "workspace-operator", "get", "lease", "workspace-operator", "-o", "json").stdout)["spec"].get("holderIdentity")

        before = holder()
        world.stop_operator()
        until(30, "the other leads", lambda: holder() not in ("", None, before))
        world.kubectl("delete", "workspaces.molecule.ai,declaredplugins.molecule.ai", "--all", "--timeout=90s")
        have, (need, refused) = granted(world.api), used(world.api)
        known = [right for right in have if right[1:4] in ASKED_BY_OTHERS]
        counted = [right for right in have if right not in known]
        if not pods:
            counted = [right for right in counted if right.resource.split("/")[0] not in ("pods", "persistentvolumeclaims", "podtemplates")]
        print(f"rbac_check: {len(have)} rights granted, {len(need)} kinds of requests, {len(refused)} requests refused")
        for right in known:
            print("rbac_check: granted, not used here:", right, ASKED_BY_OTHERS[right[1:4]])
        found = {"granted in vain": list(too_much(counted, need)), "refused": refused[:10],
                 "used without a grant": [str(one) for one in sorted(need, key=str) if not any(right.covers(one) for right in have)]}
        for what, which in found.items():
            for one in which:
                print(f"rbac_check: {what}:", one)
        # The policy on Platform workspaces and the roles for people have been checked above.
        failed = sum(1 for which in found.values() if which)
        print(f"{5 - failed} passed, {failed} failed")
        sys.exit(1 if failed else 0)
    except (Failed, subprocess.CalledProcessError) as failure:
        left = world.kubectl("get", "workspaces.molecule.ai,declaredplugins.molecule.ai,pods", "-A", "-o", "yaml", check=False).stdout
        print(f"{left}\n{world.tail('operator.log')}\nthe other replica:\n{world.tail('other.log')}\n"
              f"rbac_check: {failure} {getattr(failure, 'stderr', '')}\n0 passed, 1 failed")
        sys.exit(1)
    finally:
        if other:
            other.terminate()
            try:
                other.wait(12)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
        world.close()


main()
