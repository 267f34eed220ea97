#!/usr/bin/env python3
"""Holds manifests/ together: install.yaml is the tree rendered; the roles have no wildcard and the namespaced overlay nothing cluster-wide; the
Deployment is restricted, small, and uses flags that the program has; every alert has its runbook; every metric and label that alerts and
dashboards name is in a real scrape (monitoring.py); kustomize knows what our kinds refer to (references.py).

  check.py PROGRAM
"""
import os
import pathlib
import re
import subprocess
import sys

import yaml

from monitoring import check_monitoring
from references import check_references

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBECTL = os.environ.get("KUBECTL", str(ROOT / ".cache/bin/kubectl"))
failures = []
NODES = ("", "nodes", "get")
CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy",
                "ValidatingAdmissionPolicyBinding"}


def check(truth, message):
    if not truth:
        failures.append(message)


def render(folder):
    done = subprocess.run([KUBECTL, "kustomize", str(ROOT / folder)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"check: kubectl kustomize {folder}: {done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def by_name(documents):
    return {(d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]): d for d in documents}


def of_kind(documents, *kinds):
    return [d for d in documents if d["kind"] in kinds]


def check_install(documents):
    written = by_name(yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text()))
    wanted = by_name(documents)
    check(written == wanted, "manifests/install.yaml is not the tree rendered; run manifests/render. Differs: "
          + ", ".join("/".join(key) for key in sorted(set(written) | set(wanted)) if written.get(key) != wanted.get(key)))
    check({d["metadata"]["name"] for d in of_kind(documents, "CustomResourceDefinition")}
          == {"workspaces.molecule.ai", "declaredplugins.molecule.ai"}, "the CRDs of the installation are not the two of crds/")
    for document in documents:
        if document["kind"] in CLUSTER_WIDE:
            check("namespace" not in document["metadata"], f"{document['kind']} {document['metadata']['name']} has a namespace")


def check_roles(documents):
    for role in of_kind(documents, "Role", "ClusterRole"):
        for rule in role.get("rules", []):
            if paths := rule.get("nonResourceURLs"):
                check(set(paths) == {"/metrics"} and rule["verbs"] == ["get"], f"{role['metadata']['name']} is for other paths than /metrics: {paths}")
                continue
            texts = rule["apiGroups"] + rule["resources"] + rule["verbs"]
            check("*" not in texts, f"{role['kind']} {role['metadata']['name']} has a wildcard")
            broad = "secrets" in rule["resources"] and {"list", "watch"} & set(rule["verbs"])
            check(not broad, f"{role['kind']} {role['metadata']['name']} may read all Secrets at once")


def rights(documents, name):
    rules = [rule for d in of_kind(documents, "Role", "ClusterRole") if d["metadata"]["name"] == name for rule in d["rules"]]
    return {(group, resource, verb) for r in rules for group in r["apiGroups"] for resource in r["resources"] for verb in r["verbs"]}


def check_granted_once(documents, everywhere, name):
    again = rights(of_kind(documents, "Role"), "workspace-operator") & everywhere
    check(not again, f"the role of the operator's own namespace grants again what {name} grants: {sorted(again)}")


def check_delegator(documents):
    """What the overlay cannot have in it and managed Pods cannot do without."""
    path = "manifests/namespaced/cluster/auth_delegator.yaml"
    binding = yaml.safe_load((ROOT / path).read_text())
    check(binding["roleRef"]["name"] == "system:auth-delegator", f"{path} binds another role")
    account = of_kind(documents, "ServiceAccount")[0]["metadata"]
    check(binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}],
          f"{path} is not for the overlay's account")
    check(account["namespace"] in binding["metadata"]["name"], f"{path}: two installations would share the binding")
    for page in ("docs/how-to/install.md", "docs/reference/rbac.md", "manifests/namespaced/kustomization.yaml", "controller/server/answers.cpp"):
        check("cluster/auth_delegator.yaml" in (ROOT / page).read_text(), f"{page} does not name {path}")
        check("cluster/node_reader.yaml" in (ROOT / page).read_text() or page.startswith("controller"), f"{page} does not name node_reader.yaml")
    role, reader = yaml.safe_load_all((ROOT / "manifests/namespaced/cluster/node_reader.yaml").read_text())
    check(rights([role], role["metadata"]["name"]) == {NODES}, "node_reader.yaml lets more be read than nodes")
    check(reader["roleRef"]["name"] == role["metadata"]["name"] and reader["subjects"] == binding["subjects"], "node_reader.yaml is not for the overlay's account")


def check_namespaced(cluster):
    documents = render("manifests/namespaced")
    wide = [f"{d['kind']} {d['metadata']['name']}" for d in documents if d["kind"] in CLUSTER_WIDE]
    check(not wide, f"the namespaced overlay is not: {wide}")
    spaces = {d["metadata"].get("namespace") for d in documents}
    check(len(spaces) == 1, f"the namespaced overlay is in {spaces}")
    args = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    check(f"--namespace={spaces.pop()}" in args, "the namespaced overlay does not watch its own namespace")
    check_roles(documents)
    check_surroundings(documents)
    check(set(check_network_policies(documents)) == {"workspace-operator"}, "the NetworkPolicies of the namespaced overlay are not the operator's own alone")

    everywhere = rights(of_kind(cluster, "ClusterRole"), "workspace-operator")
    here = rights(of_kind(documents, "Role"), "workspace-operator-workspaces")
    check_delegator(documents)
    check_granted_once(cluster, everywhere, "the ClusterRole")
    check_granted_once(documents, here, "the role for Workspaces")
    reviews = {("authentication.k8s.io", "tokenreviews", "create"), ("authorization.k8s.io", "subjectaccessreviews", "create")}
    check(everywhere - reviews - {NODES} == here, f"the two operator roles differ by more than what is in no namespace: {sorted(everywhere ^ here)}")


def megabytes(text):
    return float(re.fullmatch(r"(\d+)Mi", text)[1])


def check_availability(documents, deployment):
    budget = of_kind(documents, "PodDisruptionBudget")[0]["spec"]
    check(budget["selector"] == deployment["selector"], "the disruption budget selects other Pods")
    check(0 < budget["minAvailable"] < deployment["replicas"], "the disruption budget never lets a Pod go, or all at once")
    check(budget.get("unhealthyPodEvictionPolicy") == "AlwaysAllow", "replicas that are not ready hold up the draining of nodes")
    update = deployment["strategy"]["rollingUpdate"]
    check(update["maxUnavailable"] == 0 and update["maxSurge"] > 0, "an update takes a ready replica away before another is")
    spread = deployment["template"]["spec"].get("topologySpreadConstraints", [])
    check([s["topologyKey"] for s in spread] == ["kubernetes.io/hostname"], "the replicas are not spread over nodes")
    for one in spread:
        check(one["labelSelector"] == deployment["selector"], "the spread counts other Pods")
        check(one["whenUnsatisfiable"] == "ScheduleAnyway", "with one node the second replica is never scheduled")
        check(one.get("matchLabelKeys") == ["pod-template-hash"], "in a rollout the Pods of the old version count for the spread")


def check_surroundings(documents):
    """The namespace's rules, the Service and the scrape, held against the Deployment."""
    template = of_kind(documents, "Deployment")[0]["spec"]["template"]
    container = template["spec"]["containers"][0]
    for namespace in of_kind(documents, "Namespace"):
        labels = namespace["metadata"]["labels"]
        for mode in ("enforce", "audit", "warn"):
            check(labels.get(f"pod-security.kubernetes.io/{mode}") == "restricted", f"the namespace does not {mode} the restricted Pod security")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    check(f"--http-port={ports['https']}" in container["args"], "the port https is not the one that the program listens on")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        check(asked["port"] in ports and asked["scheme"] == "HTTPS", f"the {probe} asks another port, or without TLS")
    service = of_kind(documents, "Service")[0]
    name = service["metadata"]["name"]
    check(service["spec"]["selector"].items() <= template["metadata"]["labels"].items(), "the Service selects other Pods")
    check([(p["port"], p["targetPort"]) for p in service["spec"]["ports"]] == [(8443, "https")], "the Service is not at 8443")
    check("--http-address=::" in container["args"] and service["spec"].get("ipFamilyPolicy") == "PreferDualStack",
          "the Deployment and its Service are not for both address families")
    for host in (name, f"{name}.$(POD_NAMESPACE)", f"{name}.$(POD_NAMESPACE).svc", "$(POD_IP)"):
        check(f"--tls-name={host}" in container["args"], f"the certificate is not for {host}")
    check(f"--agent-url=https://{name}.$(POD_NAMESPACE).svc:8443" in container["args"], "agents are not told the Service's URL")
    check(f"--agent-image={container['image']}" in container["args"], "the agents' image is not the Deployment's")


def check_settings(documents):
    """The admin's own: what an installation held of them an upgrade would take back. They need not be there."""
    pod = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]
    check(not of_kind(documents, "ConfigMap"), "the installation has a ConfigMap: an upgrade conflicts with what the admin has made of it")
    volume = next(v["configMap"] for v in pod["volumes"] if v["name"] == "settings")
    check(volume == {"name": "workspace-operator-settings", "optional": True}, "the settings' ConfigMap must be there, or has another name")


def settings_taken_at_their_word():
    """The example with what is commented out in it: a person will take the hash signs away."""
    text = (ROOT / "manifests/settings-example.yaml").read_text()
    whole = re.sub(r"^(\s*)# (\s*[A-Za-z-]+:(?: .*)?)$", r"\1\2", text, flags=re.MULTILINE)
    runtimes = yaml.safe_load(whole).get("runtimes", {})
    sample = next(yaml.safe_load_all((ROOT / "manifests/samples/workspace-pod.yaml").read_text()))
    check(runtimes.get(sample["spec"]["runtime"], {}).get("command"), "the settings do not show how to start the runtime of samples/workspace-pod.yaml")
    return whole


def check_scrape(documents):
    pod = of_kind(documents, "Deployment")[0]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    monitor = of_kind(render("manifests/monitoring"), "PodMonitor")[0]
    check(monitor["metadata"]["namespace"] == of_kind(documents, "Deployment")[0]["metadata"]["namespace"], "the PodMonitor is in another namespace")
    check(selects(monitor["spec"]["selector"], pod["metadata"]["labels"]), "the PodMonitor selects other Pods")
    check(pod["metadata"]["labels"].get(monitor["spec"]["jobLabel"]) == "workspace-operator", "the PodMonitor gives another job than the alerts ask for")
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        port = [p for p in container["ports"] if p["name"] == endpoint["port"]]
        check(port and endpoint["scheme"] == "https" and endpoint["path"] == "/metrics", "the PodMonitor scrapes another port")
        secret = endpoint["tlsConfig"]["ca"]["secret"]
        rules = [rule for role in of_kind(documents, "Role") for rule in role["rules"] if "secrets" in rule["resources"]]
        named = [name for rule in rules for name in rule.get("resourceNames", [])]
        check([secret["name"]] == named and secret["key"] == "ca.crt", "the PodMonitor trusts another authority than the operator's")
        name = endpoint["tlsConfig"]["serverName"]
        check(f"--tls-name={name}" in container["args"], "the PodMonitor asks for a name that the certificate has not")


def check_deployment(documents, program):
    deployment = of_kind(documents, "Deployment")[0]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    check(deployment["spec"]["replicas"] == 2, "the Deployment has not 2 replicas")
    check(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532, "the Pod does not run as 65532")
    check(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", "no seccomp profile")
    security = container["securityContext"]
    check(security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"]["drop"] == ["ALL"],
          "the container is not locked down")
    for part in ("requests", "limits"):
        check(megabytes(container["resources"][part]["memory"]) <= 128, f"memory {part} over 128 Mi")
    check({"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), "a probe is missing")
    startup = container["startupProbe"]
    check(startup["periodSeconds"] * startup["failureThreshold"] >= 600, "the startup probe kills a replica that waits for the API server")
    check_availability(documents, deployment["spec"])
    version = re.search(r"^project\(.* VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)[1]
    check(container["image"].endswith(":" + version), f"the image's tag is not the project's version {version}")
    text = subprocess.run([program, "run", "--help"], capture_output=True, text=True).stdout
    for argument in container["args"][1:]:
        flag = argument.split("=")[0]
        check(re.search(rf"(^|[\s,]){re.escape(flag)}([\s,]|$)", text), f"the program has no flag {flag}")


def selects(selector, labels):
    """A label selector of matchLabels only; an empty one selects everything."""
    check(set(selector) <= {"matchLabels"}, f"a selector is too clever for this check: {selector}")
    return selector.get("matchLabels", {}).items() <= labels.items()


def check_network_policies(documents):
    """Policies add up: what one of those that select the Pods allows is allowed."""
    pod = of_kind(documents, "Deployment")[0]["spec"]["template"]
    ports = pod["spec"]["containers"][0]["ports"]
    policies = of_kind(documents, "NetworkPolicy")
    ours = [p for p in policies if selects(p["spec"]["podSelector"], pod["metadata"]["labels"])]
    check("workspace-operator" in [p["metadata"]["name"] for p in ours], "no NetworkPolicy of its own selects the Pods of the Deployment")
    rules = {way: [rule for p in ours for rule in p["spec"].get(way, [])] for way in ("ingress", "egress")}
    for port in ports:
        opened = [one["port"] for rule in rules["ingress"] if not rule.get("from") for one in rule.get("ports", []) if one.get("protocol", "TCP") == "TCP"]
        check(port["name"] in opened or port["containerPort"] in opened, f"no NetworkPolicy lets everybody reach the port {port['name']}")
    check(all(one["port"] in {n for p in ports for n in (p["name"], p["containerPort"])} for rule in rules["ingress"] for one in rule.get("ports", [])),
          "a NetworkPolicy opens a port that the container has not")
    bound = any("Egress" in p["spec"]["policyTypes"] for p in ours)
    check(not bound or {} in rules["egress"], "the NetworkPolicies forbid the operator hosts or ports that its sources may have")
    return {p["metadata"]["name"]: p for p in policies}


def main():
    program = os.path.abspath(sys.argv[1])
    documents = render("manifests")
    check_install(documents)
    check_roles(documents)
    check_namespaced(documents)
    check_deployment(documents, program)
    check_surroundings(documents)
    check_settings(documents)
    check_scrape(documents)
    check("default-deny" in check_network_policies(documents), "other Pods of the operator's namespace are not shut off")
    check_references(check, KUBECTL)
    wanted = check_monitoring(check, program, KUBECTL, settings_taken_at_their_word())
    if failures:
        sys.exit("\n".join(f"check: {failure}" for failure in failures))
    print(f"check: {len(documents)} objects, {len(wanted)} metrics examined; all as said")


main()
