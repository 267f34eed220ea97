"""Part of bench/cluster: boxes bring their plugins along (boot-install), and the operator records them. Pods are played by bench/fake_kubelet."""
import json
import os
import re
import subprocess
import time

from cluster_agents import Agents, made, online, quiet
from cluster_fleet import EACH, NEVER, PATIENT, ROOT, TEAM, Failed, Fleet, Replica, kinds, uid, until

BOXES = int(os.environ.get("WO_BENCH_BOXES", "2000"))
NODE = "played"
ALL = 1_000_000  # All in one namespace.


class Kubelet:
    def __init__(self, digests):
        program = subprocess.run([ROOT / "bench/fake_kubelet/build"], check=True, capture_output=True, text=True).stdout.strip()
        plugins = ",".join(f"{name}={digest}" for name, digest in digests.items())
        self.process = subprocess.Popen([program, "-plugins", plugins], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def register(self, fleet):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        status = {"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
                             "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}
        for answer in (fleet.admin.call("POST", "/api/v1/nodes", node), fleet.admin.call("PATCH", f"/api/v1/nodes/{NODE}/status", status, "application/merge-patch+json")):
            if answer[0] not in (200, 201):
                raise Failed(f"the node: {answer}")

    def end(self):
        self.process.stdin.close()
        calls = json.loads(self.process.stdout.readline())
        self.process.wait(20)
        return calls


def pod(number, team):
    name, ns = f"ws-{number:05}", f"team-{number // team}"
    return f"/registry/pods/{ns}/{name}", json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": ns, "uid": uid(f"pod{number}"), "creationTimestamp": "2026-11-01T00:00:00Z",
                                                        "labels": {"molecule.ai/workspace": name}},
        "spec": {"nodeName": NODE, "restartPolicy": "Always", "containers": [{"name": "main", "image": "localhost/box:1", "volumeMounts": [
            {"name": "configs", "mountPath": "/configs"}]}], "volumes": [{"name": "configs", "emptyDir": {}}]},
        "status": {"phase": "Running", "startTime": "2026-11-01T00:00:00Z", "conditions": [{"type": "Ready", "status": "True"}],
                   "containerStatuses": [{"name": "main", "ready": True, "started": True, "restartCount": 0, "image": "localhost/box:1", "imageID": "x",
                                          "containerID": f"containerd://{number:064x}", "state": {"running": {"startedAt": "2026-11-01T00:00:00Z"}}}]}})


def declaration(name, ns, source, target):
    spec = {"source": source, "pluginName": re.search(r"/([^/#]+)#", source).group(1), "update": {"policy": "Track", "intervalSeconds": 3600}, "deletionPolicy": "Remove",
            "suspend": False, **target}
    return f"/registry/molecule.ai/declaredplugins/{ns}/{name}", json.dumps({
        "apiVersion": "molecule.ai/v1alpha1", "kind": "DeclaredPlugin", "spec": spec,
        "metadata": {"name": name, "namespace": ns, "uid": uid(f"{ns}/{name}"), "generation": 1, "creationTimestamp": "2026-11-01T00:00:00Z"}})


def boxes(fleet, team):
    for n in range(BOXES):
        key, text, values = made(n, {"type": "Pod", "pod": {"podRef": {"name": f"ws-{n:05}"}, "container": "main"}}, 30, team)
        yield key, text
        yield fleet.secret(values)
        yield pod(n, team)


def declarations(sources, team):
    for name, source in sources.items():
        if team == ALL:
            yield declaration(name, "team-0", source, {"workspaceSelector": {}})
            continue
        for n in range(BOXES):
            yield declaration(f"ws-{n:05}-{name}", f"team-{n // team}", source, {"workspaceRef": {"name": f"ws-{n:05}"}})


def fill(fleet, pairs):
    fleet.api.part("kill", "apiserver")
    fleet.write(pairs)
    fleet.start_api()


def adopt(program, team, figure, say):
    os.environ["WO_CLUSTER_UP"] = "-- --kubelet-preferred-address-types=InternalIP"
    fleet = Fleet(program)
    kubelet = None
    try:
        fleet.quiet_seed()
        rows = fleet.workspace("seedworkspace")["status"]["plugins"]
        sources = {row["name"]: row["source"] for row in rows}
        kubelet = Kubelet({row["name"]: row["digest"] for row in rows})
        kubelet.register(fleet)
        for n in range((BOXES - 1) // team + 1):
            fleet.admin.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"team-{n}"}})
        fill(fleet, boxes(fleet, team))
        fleet.use(**NEVER)  # Regular looks, which boxes have anyway, would be counted as adoption's.
        leader = Replica(fleet, "leader", *PATIENT).warm()
        agents = Agents("-urls", leader.url, "-agents", BOXES, "-team", team, "-period", "30s").ready()
        until(900, "all boxes are Online", lambda: online(leader) >= BOXES)
        until(300, "and nothing is written any more", lambda: quiet(leader))
        say(f"{len(sources)} plugins are declared for {BOXES:,} boxes that have them")
        before, begin, cpu = calls(leader), time.time(), leader.cpu()
        fill(fleet, declarations(sources, team))
        rows = f'workspace_operator_plugins{{loaded="true"'
        until(1200, "every plugin has its row", lambda: sum(float(v) for v in re.findall(rf"^{re.escape(rows)}[^}}]*}} (\S+)$", leader.http("/metrics"), re.M)) >= BOXES * EACH)
        until(300, "and nothing is written any more", lambda: quiet(leader))
        asked = [one for one in fleet.audit(begin) if one[1] != "watch"]
        execs = sum(resource == "pods" and verb in ("get", "create") for _, verb, resource, _ in asked)
        after = calls(leader)
        say(f"requests: {kinds(asked)}")
        how = "one DeclaredPlugin selecting all" if team == ALL else "one DeclaredPlugin each"
        figure(f"API requests per adopted plugin, {how}", (len(asked) - execs) / (BOXES * EACH), "", 0.25 if team == ALL else 1.05)
        figure(f"execs per adopting workspace, {how}", sum(after[c] - before.get(c, 0) for c in after if c in ("probe", "adopt", "deliver", "activate", "remove")) / BOXES, "", 1)
        figure(f"restarts of those {BOXES:,} boxes, {how}", after.get("restart", 0) - before.get("restart", 0), "", 0)
        figure(f"CPU per adopted plugin, {how}", (leader.cpu() - cpu) * 1e6 / (BOXES * EACH), "us")
        say(f"box calls: {before} then {after}")
        agents.end()
    finally:
        if kubelet:
            say(f"the kubelet was asked: {kubelet.end()}")
        fleet.close()
        os.environ.pop("WO_CLUSTER_UP", None)


def calls(replica):
    """Box calls by kind, whatever became of them."""
    counts = {}
    for call, value in re.findall(r'^workspace_operator_box_calls_total\{call="([^"]+)"[^}]*\} (\S+)$', replica.http("/metrics"), re.M):
        counts[call] = counts.get(call, 0) + float(value)
    return counts


def adoption(program, figure, say):
    for team in (TEAM, ALL):
        adopt(program, team, figure, say)
