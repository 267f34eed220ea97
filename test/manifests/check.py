#!/usr/bin/env python3
"""Holds manifests/ together: install.yaml is the tree rendered; the roles have no wildcard and the namespaced overlay nothing cluster-wide; the
Deployment is restricted, small, and uses flags that the program has; every alert has its runbook; every metric that alerts and dashboards name is
in a real scrape.

  check.py PROGRAM
"""
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBECTL = os.environ.get("KUBECTL", str(ROOT / ".cache/bin/kubectl"))
failures = []
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


def check_namespaced(cluster):
    documents = render("manifests/namespaced")
    wide = [f"{d['kind']} {d['metadata']['name']}" for d in documents if d["kind"] in CLUSTER_WIDE]
    check(not wide, f"the namespaced overlay is not: {wide}")
    spaces = {d["metadata"].get("namespace") for d in documents}
    check(len(spaces) == 1, f"the namespaced overlay is in {spaces}")
    args = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    check(f"--namespace={spaces.pop()}" in args, "the namespaced overlay does not watch its own namespace")
    check_roles(documents)

    def rules(documents, kind, name):
        found = [d for d in of_kind(documents, kind) if d["metadata"]["name"] == name][0]["rules"]
        return {(group, resource, verb) for r in found for group in r["apiGroups"] for resource in r["resources"] for verb in r["verbs"]}

    everywhere = rules(cluster, "ClusterRole", "workspace-operator")
    here = rules(documents, "Role", "workspace-operator-workspaces")
    reviews = {("authentication.k8s.io", "tokenreviews", "create"), ("authorization.k8s.io", "subjectaccessreviews", "create")}
    check(everywhere - reviews == here, f"the two operator roles differ by more than the reviews: {sorted(everywhere ^ here)}")


def megabytes(text):
    return float(re.fullmatch(r"(\d+)Mi", text)[1])


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
    budget = of_kind(documents, "PodDisruptionBudget")[0]["spec"]
    check(budget["selector"] == deployment["spec"]["selector"], "the disruption budget selects other Pods")
    version = re.search(r"^project\(.* VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)[1]
    check(container["image"].endswith(":" + version), f"the image's tag is not the project's version {version}")
    text = subprocess.run([program, "run", "--help"], capture_output=True, text=True).stdout
    for argument in container["args"][1:]:
        flag = argument.split("=")[0]
        check(re.search(rf"(^|[\s,]){re.escape(flag)}([\s,]|$)", text), f"the program has no flag {flag}")


def expressions_of_dashboards():
    for path in sorted((ROOT / "manifests/monitoring/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        check(board["title"] and board["uid"] and len(board["panels"]) > 5, f"{path.name} is no dashboard")
        kinds = {variable["type"] for variable in board["templating"]["list"]}
        check("datasource" in kinds, f"{path.name} has no data source variable")
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name} panel {panel['title']}", target["expr"]


def check_monitoring():
    rules = yaml.safe_load((ROOT / "manifests/monitoring/rules.yaml").read_text())["spec"]
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    folder = ROOT / "docs/runbooks"
    for alert in alerts:
        page = folder / f"{alert['alert']}.md"
        check(alert["annotations"]["runbook_url"] == str(page.relative_to(ROOT)) and page.is_file(), f"{alert['alert']} has no runbook")
        check(page.is_file() and all(f"## {part}" in page.read_text() for part in ("What it means", "Look", "Mend")), f"{page.name} lacks a part")
        check(alert["labels"]["severity"] in ("critical", "warning", "info"), f"{alert['alert']} has no severity")
        check(alert["annotations"].get("summary") and alert["annotations"].get("description"), f"{alert['alert']} says too little")
    pages = {page.stem for page in folder.glob("*.md")} - {"README"}
    check(pages == {alert["alert"] for alert in alerts}, f"runbooks without an alert: {pages - {a['alert'] for a in alerts}}")
    found = [(f"alert {alert['alert']}", alert["expr"]) for alert in alerts] + list(expressions_of_dashboards())
    wanted = {}
    for place, expression in found:
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
        for name in re.findall(r"\b[a-z]+_[a-z0-9_]+\b", re.sub(r"\bby\s*\([^)]*\)", " ", bare)):
            if name not in ("histogram_quantile",):
                wanted.setdefault(name, place)
    return wanted


def scrape(url, ca):
    context = ssl.create_default_context(cafile=ca) if ca else None
    with urllib.request.urlopen(url + "/metrics", timeout=10, context=context) as answer:
        text = answer.read().decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    grave = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower() and "while linting" in line]
    check(not grave, f"promtool check metrics of {url}: {grave}")
    return set(re.findall(r"^([a-z_0-9]+)(?:\{| )", text, re.MULTILINE))


def wait_for(what, answer, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = answer()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"check: waited in vain: {what}\n{log.read_text()}")


WORKSPACE = """
apiVersion: molecule.ai/v1alpha1
kind: Workspace
metadata: {{name: scraped, namespace: default}}
spec:
  runtime: sample
  box: {{type: Directory, directory: {{path: {box}, run: Operator}}}}
  plugins: [{{name: greeter, source: "local://greeter"}}]
"""


def check_metrics(program, wanted):
    """Two real processes: one with work (the embedded one), one as in a cluster."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        box = folder / "box"
        (box / "configs").mkdir(parents=True)
        plugins = ROOT / "manifests/samples/quickstart/plugins"
        (folder / "settings.yaml").write_text(
            f"sources: {{localRoot: {plugins}, allowUnpinned: true}}\nruntimes: {{sample: {{command: [/bin/sleep, '1000']}}}}\n")
        log = open(folder / "log", "w+")
        processes = [subprocess.Popen([program, "dev", "--data-dir", folder / "api", "--settings", folder / "settings.yaml"],
                                      stdout=subprocess.PIPE, stderr=log, text=True)]
        try:
            out = ""
            while "ready in" not in out:
                line = processes[0].stdout.readline()
                if not line:
                    sys.exit("check: dev ended: " + (folder / "log").read_text())
                out += line
            embedded = re.search(r"operator: (\S+)", out)[1]
            kubeconfig = re.search(r"KUBECONFIG=(\S+)", out)[1]
            subprocess.run([KUBECTL, "--kubeconfig", kubeconfig, "apply", "-f", "-"], input=WORKSPACE.format(box=box), text=True, check=True,
                           capture_output=True)
            run_log = open(folder / "run.log", "w+")
            processes.append(subprocess.Popen(
                [program, "run", "--kubeconfig", kubeconfig, "--namespace", "nobody", "--data-dir", folder / "run", "--tls", "--http-port", "0"],
                stderr=run_log))
            cluster = wait_for("run is ready", lambda: re.search(r"url=\"?(https://[\d.:]+)", (folder / "run.log").read_text()), folder / "run.log")[1]

            def missing():
                names = scrape(embedded, None) | scrape(cluster, str(folder / "run/ca.crt"))
                return {name for name in wanted if name not in names}

            end = time.monotonic() + 60
            while missing() and time.monotonic() < end:
                time.sleep(0.2)
            for name in sorted(missing()):
                check(False, f"{wanted[name]} names {name}, which is in no scrape")
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(20)
            log.close()


def main():
    program = os.path.abspath(sys.argv[1])
    documents = render("manifests")
    check_install(documents)
    check_roles(documents)
    check_namespaced(documents)
    check_deployment(documents, program)
    render("manifests/monitoring")
    wanted = check_monitoring()
    check_metrics(program, wanted)
    if failures:
        sys.exit("\n".join(f"check: {failure}" for failure in failures))
    print(f"check: {len(documents)} objects, {len(wanted)} metrics examined; all as said")


main()
