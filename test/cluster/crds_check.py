#!/usr/bin/env python3
"""Holds the CRDs against real API servers: crds_check.py KUBECTL NAME=KUBECONFIG [NAME=KUBECONFIG].

On each server: the CRDs are taken whole (every CEL rule compiles and is within its cost budget), every row of test/crds/refusals.yaml is
refused with its message, every sample is taken strictly, and applied twice differs in nothing. With two servers the verdicts must be the
same: code, reason, the fields that are blamed, and each sample as stored, defaults included. So are the tables of `kubectl get`. Ends with 'N passed, N failed'.
"""
import copy
import json
import pathlib
import re
import subprocess
import sys
import time

import yaml

from api_client import Api

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLURALS = {"Workspace": "workspaces", "DeclaredPlugin": "declaredplugins"}
passed, failed = [], []


def report(name, problem):
    (failed if problem else passed).append(name)
    print(f"FAILED  {name}: {problem}" if problem else f"ok      {name}", flush=True)


def path_of(kind, name="", query=""):
    return f"/apis/molecule.ai/v1alpha1/namespaces/default/{PLURALS[kind]}{'/' + name if name else ''}{query}"


def object_of(kind, name, spec):
    return {"apiVersion": "molecule.ai/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def verdict(code, body):
    """What must be equal on every server; messages of several faults may come in any order."""
    details = body.get("details") or {}
    causes = sorted({(c.get("field", ""), c.get("reason", "")) for c in details.get("causes") or []})
    return {"code": code, "reason": body.get("reason"), "kind": details.get("kind"), "causes": causes}


def install(api, kubectl, kubeconfig, name):
    environment = {"KUBECONFIG": kubeconfig, "PATH": "/usr/bin:/bin", "HOME": str(pathlib.Path(kubeconfig).parent)}
    if name != "embedded":  # There they are built in.
        result = subprocess.run([kubectl, "apply", "--server-side", "-f", ROOT / "crds"], env=environment, capture_output=True, text=True)
        report(f"{name}: kubectl apply --server-side -f crds/", result.stderr if result.returncode else "")
    problem, end = "not Established", time.monotonic() + 20
    while problem and time.monotonic() < end:
        states = []
        for plural in PLURALS.values():
            code, crd = api.call("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.molecule.ai")
            states.append({c["type"]: c["status"] for c in (crd.get("status") or {}).get("conditions") or []} if code == 200 else {"code": code})
            served, _ = api.call("GET", path_of("Workspace" if plural == "workspaces" else "DeclaredPlugin"))
            states[-1]["served"] = "True" if served == 200 else str(served)
        bad = [s for s in states if s.get("Established") != "True" or s.get("NonStructuralSchema", "False") != "False" or s["served"] != "True"]
        problem = f"conditions {bad}" if bad else ""
    report(f"{name}: the CRDs are Established, structural and served", problem)
    return environment


def refusals(api, name):
    seen = {}
    for index, line in enumerate(yaml.safe_load_all((ROOT / "test/crds/refusals.yaml").read_text())):
        kind, what = line["kind"], f"refusal-{index}"
        if "old" in line:
            code, old = api.call("POST", path_of(kind, query="?fieldValidation=Strict"), object_of(kind, what, line["old"]))
            if code != 201:
                report(f"{name}: {line['name']}", f"the object before the update: {code} {old.get('message')}")
                continue
            new = {**old, "spec": line["spec"]}
            code, body = api.call("PUT", path_of(kind, what, "?fieldValidation=Strict&dryRun=All"), new)
            api.call("DELETE", path_of(kind, what))
        else:
            code, body = api.call("POST", path_of(kind, query="?fieldValidation=Strict&dryRun=All"), object_of(kind, what, line["spec"]))
        seen[line["name"]] = verdict(code, body)
        problem = ""
        if code != 422 or line["says"] not in body.get("message", ""):
            problem = f"wanted 422 with {line['says']!r}, got {code}: {body.get('message', 'accepted')}"
        report(f"{name}: refused: {line['name']}", problem)
    return seen


def stored(body):
    """The object without what each server gives it."""
    body = copy.deepcopy(body)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        body.get("metadata", {}).pop(field, None)
    return body


def samples(api, kubectl, environment, name):
    seen = {}
    for file in sorted((ROOT / "manifests/samples").rglob("*.yaml")):
        text = file.read_text().replace("${BOX}", "/srv/box")
        documents = [d for d in yaml.safe_load_all(text) if d and d.get("kind") in PLURALS]
        for document in documents:
            label = f"{file.relative_to(ROOT / 'manifests/samples')}: {document['kind']} {document['metadata']['name']}"
            document["metadata"]["namespace"] = "default"
            code, body = api.call("POST", path_of(document["kind"], query="?fieldValidation=Strict&dryRun=All"), document)
            seen[label] = stored(body) if code == 201 else verdict(code, body)
            report(f"{name}: accepted: {label}", "" if code == 201 else f"{code}: {body.get('message')}")
            for arguments, wanted in ((["apply", "--server-side", "-f", "-"], "serverside-applied"), (["diff", "--server-side", "-f", "-"], "")):
                result = subprocess.run([kubectl, *arguments], input=json.dumps(document), env=environment, capture_output=True, text=True)
                good = result.returncode == 0 and wanted in result.stdout
                report(f"{name}: kubectl {arguments[0]}: {label}", "" if good else f"exit {result.returncode}: {result.stdout}{result.stderr}")
            api.call("DELETE", path_of(document["kind"], document["metadata"]["name"]))
    return seen


def condition(kind, status, reason):
    return {"type": kind, "status": status, "reason": reason, "message": f"{kind} says {reason}", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}


# Kind, spec, status, and what `kubectl get` and `kubectl get -o wide` print of it, without the age.
TABLES = [
    ("Workspace", {"kind": "Platform", "runtime": "sample", "model": "m", "box": {"type": "Directory", "directory": {"path": "/srv/box"}}},
     {"state": "Failed", "conditions": [condition("Ready", "False", "ManagementMissing"), condition("PluginsConverged", "True", "Converged")]},
     ["NAME", "READY", "STATE", "REASON", "BOX", "PLUGINS", "AGE"], ["shown", "False", "Failed", "ManagementMissing", "Directory", "True"],
     ["NAME", "READY", "STATE", "REASON", "BOX", "PLUGINS", "KIND", "RUNTIME", "MESSAGE", "AGE"],
     ["shown", "False", "Failed", "ManagementMissing", "Directory", "True", "Platform", "sample", "Ready says ManagementMissing"]),
    ("DeclaredPlugin", {"workspaceRef": {"name": "w"}, "pluginName": "searcher", "source": "gitea://demo/searcher#tag:v1"},
     {"workspaces": {"matched": 3, "ready": 2, "pending": 1, "failed": 0, "blocked": 0}, "conditions": [condition("Ready", "Unknown", "Progressing")]},
     ["NAME", "READY", "REASON", "PLUGIN", "SOURCE", "MATCHED", "LOADED", "AGE"],
     ["shown", "Unknown", "Progressing", "searcher", "gitea://demo/searcher#tag:v1", "3", "2"],
     ["NAME", "READY", "REASON", "PLUGIN", "SOURCE", "MATCHED", "LOADED", "COMMIT", "MESSAGE", "AGE"],
     ["shown", "Unknown", "Progressing", "searcher", "gitea://demo/searcher#tag:v1", "3", "2", "", "Ready says Progressing"]),
]


def cells(text):
    """The header and the first row of a table of kubectl, cut at the header's columns; the age is left out."""
    header, row = text.splitlines()[:2]
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    ends = starts[1:] + [None]
    return header.split(), [row[a:b].strip() for a, b in zip(starts, ends)][:-1]


def tables(kubectl, environment, name):
    """What people see, and programs that show the columns of any CRD."""
    seen = {}
    for kind, spec, status, *wanted in TABLES:
        what = f"{PLURALS[kind]}.molecule.ai"

        def run(*arguments, stdin=None):
            return subprocess.run([kubectl, *arguments], input=stdin, env=environment, capture_output=True, text=True)

        run("create", "-f", "-", stdin=json.dumps(object_of(kind, "shown", spec)))
        patched = run("patch", what, "shown", "--subresource=status", "--type=merge", "-p", json.dumps({"status": {**status, "observedGeneration": 1}}))
        texts = [run("get", what, "shown", *wide) for wide in ((), ("-o", "wide"))]
        if patched.returncode or any(t.returncode for t in texts):
            problem = f"{patched.stderr}{''.join(t.stderr for t in texts)}"
        else:
            got = [part for text in texts for part in cells(text.stdout)]
            problem = "" if got == wanted else f"wanted {wanted}, got {got}"
            seen[f"kubectl get {what}"] = got
        report(f"{name}: kubectl get {what}, and -o wide", problem)
        run("delete", what, "shown")
    return seen


def compare(names, results):
    first, second = results
    for name in first:
        same = first[name] == second.get(name)
        report(f"same on both: {name}", "" if same else f"{names[0]}: {json.dumps(first[name])}\n        {names[1]}: {json.dumps(second.get(name))}")


def main():
    kubectl, servers = sys.argv[1], [a.split("=", 1) for a in sys.argv[2:]]
    results = []
    for name, kubeconfig in servers:
        api = Api(kubeconfig)
        environment = install(api, kubectl, kubeconfig, name)
        results.append({**refusals(api, name), **samples(api, kubectl, environment, name), **tables(kubectl, environment, name)})
    if len(results) == 2:
        compare([n for n, _ in servers], results)
    print(f"{len(passed)} passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


main()
