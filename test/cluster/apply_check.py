#!/usr/bin/env python3
"""Who owns which field, on two API servers: apply_check.py [--seed N] [--runs N] NAME=KUBECONFIG NAME=KUBECONFIG.

Random writes to one object (server-side apply by three managers, with force and without, of the object and of its status; merge and JSON
patches, PUT), the same ones on both servers. After each the answers must be equal: code, object with its managedFields, order of lists,
conflicts. A run is known by its seed. Ends with 'N passed, N failed'.

One difference is left out: Kubernetes turns a map or list into null, and refuses it, when its last owner applies it empty.
"""
import argparse
import copy
import json
import pathlib
import random
import re
import time

import yaml

from api_client import Api

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRD = yaml.safe_load((ROOT / "test/crds/thing.yaml").read_text())
THINGS = "/apis/test.example/v1/namespaces/default/things"
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json-patch+json"
STEPS = 14


class Dice(random.Random):
    def some(self, choices, least=0):
        return self.sample(choices, self.randint(least, len(choices)))

    def once_in(self, chances, make):
        return {} if self.random() >= chances[1] else {chances[0]: make()}

    def item(self, name):
        return {"name": name, **self.once_in(("v", .6), lambda: self.choice("12")), **self.once_in(("w", .4), lambda: self.choice("12")),
                **self.once_in(("tags", .3), lambda: self.some("fgh")),
                **self.once_in(("parts", .4), lambda: [{"k": k, **({"l": l} if l else {}), **self.once_in(("x", .5), lambda: self.choice("12"))}
                                                       for k, l in self.some([("k1", "l1"), ("k1", "L"), ("k2", ""), ("k2", "l2")])[:3]])}

    def spec(self):
        spec = {}
        for chances, make in [
                (("text", .4), lambda: self.choice("ab")), (("number", .3), lambda: self.choice([1, 2])), (("defaulted", .2), lambda: self.choice(["dd", "e"])),
                (("free", .4), lambda: {k: self.choice("xy") for k in self.some("pqr", 1)}), (("whole", .3), lambda: {k: self.choice("xy") for k in self.some("ab")}),
                (("set", .5), lambda: self.some("stuv")), (("plain", .3), lambda: self.some("xy")),
                (("unknown", .2), lambda: self.choice([{}, {"a": 1}, {"a": {"b": [1, 2]}}, {"l": [{"name": "x"}]}])),
                (("items", .7), lambda: [self.item(n) for n in self.some("abcde")[:4]])]:
            spec.update(self.once_in(chances, make))
        return spec

    def thing(self, name):
        metadata = {"name": name, "namespace": "default", **self.once_in(("labels", .5), lambda: {k: self.choice("xy") for k in self.some(["l1", "l2", "l3"])}),
                    **self.once_in(("annotations", .3), lambda: {k: self.choice("xy") for k in self.some(["n1", "n2"])}),
                    **self.once_in(("finalizers", .2), lambda: [f"test.example/{k}" for k in self.some("xyz")])}
        return {"apiVersion": "test.example/v1", "kind": "Thing", "metadata": metadata, **self.once_in(("spec", .95), self.spec)}

    def conditions(self):
        return {"conditions": [{"type": t, **self.once_in(("status", .7), lambda: self.choice(["True", "False"])), **self.once_in(("text", .7), lambda: self.choice("ab"))}
                               for t in self.some("RSF")]}

    def step(self, name):
        """Method, path, body, content type."""
        path, thing, chance = f"{THINGS}/{name}", self.thing(name), self.random()
        applied = f"?fieldManager={self.choice(['ma', 'mb', 'mc'])}&force={self.choice(['true', 'false'])}"
        if chance < .62:
            return "PATCH", path + applied, thing, APPLY
        if chance < .70:
            return "PATCH", path + "/status" + applied, {"apiVersion": "test.example/v1", "kind": "Thing", "metadata": {"name": name}, "status": self.conditions()}, APPLY
        if chance < .80:
            changed = {k: v for k, v in thing["metadata"].items() if k in ("labels", "finalizers")}
            return "PATCH", f"{path}?fieldManager={self.choice(['ed', 'ma'])}", {"metadata": changed, "spec": thing.get("spec", {})}, MERGE
        if chance < .86:
            return "PATCH", path + "?fieldManager=ed", [self.choice([
                {"op": "add", "path": "/spec/items/-", "value": {"name": self.choice("abcde"), "v": "9"}}, {"op": "remove", "path": "/spec/items/0"},
                {"op": "add", "path": "/spec/set/-", "value": self.choice("stuv")}, {"op": "remove", "path": "/spec/set/0"},
                {"op": "replace", "path": "/spec/text", "value": "z"}, {"op": "remove", "path": "/metadata/labels"}])], JSON
        if chance < .95:
            return "PUT", f"{path}?fieldManager={self.choice(['up', 'ma'])}", thing, "application/json"
        return "PATCH", path + "/status?fieldManager=ed", {"status": self.conditions()}, MERGE


def comparable(body):
    """Without what differs from server to server, and in an order of its own where a server's has no meaning."""
    body = copy.deepcopy(body)
    if not isinstance(body, dict):
        return body
    if body.get("kind") == "Status":
        message = re.sub(r"^(the server rejected our request due to an error in our request).*", r"\1", body.get("message", ""), flags=re.S)
        if faults := re.match(r"^(.*is invalid: )\[(.*)\]$", message, re.S):
            message = faults[1] + str(sorted(faults[2].split(", ")))
        causes = (body.get("details") or {}).get("causes")
        return {"code": body.get("code"), "reason": body.get("reason"), "message": message, "causes": causes and sorted(causes, key=lambda cause: json.dumps(cause, sort_keys=True))}
    metadata = body["metadata"]
    for name in ("uid", "resourceVersion", "creationTimestamp"):
        metadata.pop(name, None)
    for entry in metadata.get("managedFields", []):
        entry.pop("time", None)
    metadata["managedFields"] = sorted(metadata.get("managedFields", []), key=lambda entry: json.dumps(entry, sort_keys=True))
    return body


def differences(path, one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        return [line for key in sorted(set(one) | set(other)) if one.get(key) != other.get(key) for line in differences(f"{path}/{key}", one.get(key), other.get(key))]
    return [f"{path}: {json.dumps(one)[:300]} and {json.dumps(other)[:300]}"]


def write(api, step, keeps_owners):
    method, path, body, content_type = step
    if method == "PUT":
        code, there = api.call("GET", path.split("?")[0])
        if code == 200:
            body = copy.deepcopy(body)
            body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
            if keeps_owners:
                body["metadata"]["managedFields"] = there["metadata"].get("managedFields", [])
    code, answer = api.call(method, path, body, content_type)
    return code, comparable(answer)


def run(seed, servers):
    """What was different, and how many answers were compared."""
    dice, name = Dice(seed), f"thing-{seed}"
    try:
        for number in range(STEPS):
            step = dice.step(name)
            (code, one), (other_code, other) = (write(api, step, seed % 2) for api in servers)
            if 422 in (code, other_code) and '"null"' in json.dumps([one, other]).replace("\\", ""):
                return "", number
            if (code, one) != (other_code, other):
                return f"step {number}: {' '.join(map(str, step))}\n  " + "\n  ".join(differences("", {"code": code, "": one}, {"code": other_code, "": other})), number
        return "", STEPS
    finally:
        for api in servers:
            api.call("PATCH", f"{THINGS}/{name}", {"metadata": {"finalizers": None}}, MERGE)
            api.call("DELETE", f"{THINGS}/{name}")


def install(api):
    """Where definitions can be made; the embedded server of the tests has it from the start."""
    api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    end = time.monotonic() + 20
    while api.call("GET", THINGS)[0] != 200:
        if time.monotonic() > end:
            raise SystemExit("apply_check: things.test.example is not served")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("servers", nargs=2)
    given = parser.parse_args()
    servers = [Api(server.split("=", 1)[1]) for server in given.servers]
    for api in servers:
        install(api)
    failed = answers = 0
    for seed in range(given.seed, given.seed + given.runs):
        problem, steps = run(seed, servers)
        answers += steps
        if problem:
            failed += 1
            print(f"FAILED  --seed {seed} --runs 1: {problem}", flush=True)
    # A run that ends early compares nothing: most must not.
    if answers < given.runs * STEPS / 2:
        failed += 1
        print(f"FAILED  only {answers} answers were compared in {given.runs} runs")
    print(f"{answers} answers compared")
    print(f"{given.runs - failed} passed, {failed} failed")
    raise SystemExit(failed != 0)


main()
