"""manifests/gitops/kustomize/references.yaml knows every reference of the CRDs, and kustomize follows it in the samples."""
import pathlib
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "manifests/gitops/kustomize/references.yaml"
SECRETS = ("plugins-read", "agent-3-ssh")  # That the samples name; kustomize renames what it knows.


def in_schema(schema, path=()):
    """Paths of `...Ref.name` and `image`; lists and items do not matter to kustomize."""
    for name, part in schema.get("properties", {}).items():
        if name.endswith("Ref") and "name" in part.get("properties", {}):
            yield "/".join([*path, name, "name"])
        elif name == "image":
            yield "/".join([*path, name])
        else:
            yield from in_schema(part.get("items", part), (*path, name))


def known():
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    fields = [f for reference in configuration["nameReference"] for f in reference["fieldSpecs"]] + configuration["images"]
    return {(f["kind"], f["path"]) for f in fields}


def declared():
    for file in ("workspaces", "declaredplugins"):
        crd = yaml.safe_load((ROOT / f"crds/{file}.yaml").read_text())["spec"]
        spec = crd["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        yield from ((crd["names"]["kind"], path) for path in in_schema(spec, ("spec",)))


def rendered(kubectl):
    """The samples in an overlay with a prefix and another image, as text by line."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        samples = sorted((ROOT / "manifests/samples").glob("*.yaml"))
        for sample in samples:
            (folder / sample.name).write_text(sample.read_text())
        others = [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}} for name in SECRETS]
        others.append({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "claude-code-large"}})
        others.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent-0"}})
        (folder / "others.yaml").write_text(yaml.safe_dump_all(others))
        (folder / "references.yaml").write_text(CONFIGURATION.read_text())
        (folder / "kustomization.yaml").write_text(yaml.safe_dump({
            "resources": [*(s.name for s in samples), "others.yaml"], "configurations": ["references.yaml"], "namePrefix": "dev-",
            "images": [{"name": "registry.example.com/agents/claude-code", "newTag": "1.5"}]}))
        return subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout


def check_references(check, kubectl):
    wanted, have = set(declared()), known()
    check(wanted == have, f"{CONFIGURATION.name} lacks, or knows in vain: {sorted(wanted ^ have)}")
    text = rendered(kubectl)
    for document in yaml.safe_load_all(text):
        pending = [document.get("spec", {})]
        while pending:
            part = pending.pop()
            for name, value in part.items():
                if name.endswith("Ref"):
                    check(value["name"].startswith("dev-"), f"kustomize leaves {document['kind']} {document['metadata']['name']}: {name} {value['name']}")
                elif isinstance(value, dict):
                    pending.append(value)
    check("image: registry.example.com/agents/claude-code:1.5" in text, "kustomize leaves the image of a Workspace")
