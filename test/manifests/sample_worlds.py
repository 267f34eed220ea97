"""Makes each file of manifests/samples converge as far as this machine can, and holds that `kubectl diff` then finds nothing, with both kinds of apply.

Where a sample names a host, a folder or a repository of somebody's, its text is used with one of the test's own in that place.
"""
import base64
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/scenario"))
from world import RUNTIME, Failed, condition, is_ready, until, workspace  # noqa: E402

# These end with an answer of the operator, not with Ready; what is missing on this machine is a box.
NOT_HERE = {
    "workspace-docker.yaml": "no Docker host",
    "workspace-ssh.yaml": "no SSH machine",
    "workspace-pod.yaml": "nobody runs Pods on this variant of the cluster",
    "workspace-pod-adopted.yaml": "nobody runs Pods on this variant of the cluster",
}
INSTEAD = {"git+https://git.example.com/plugins.git//code-review#tag:v1.2.0": "gitea://example/plugins/code-review#tag:v1.2.0"}


def settings_for_samples(world):
    """What the samples' administrator would have configured."""
    world.settings["sources"].update({"githubURL": world.git_url, "localRoot": str(world.folder / "local")})
    world.settings["runtimes"] = {"claude-code": {"command": [str(RUNTIME)]}}
    notes = world.folder / "local/notes"
    notes.mkdir(parents=True)
    (notes / "plugin.yaml").write_text("name: notes\nversion: 1.0.0\ndescription: a sample's\n")
    files = {f"{name}/plugin.yaml": f"name: {name}\nversion: 1.0.0\ndescription: a sample's\n" for name in ("code-review", "search")}
    world.plugin("plugins", tag="v1.2.0", files=files, repository="example/plugins")
    world.write_settings()


def changed_settings(world):
    """Writes them and waits until the operator has taken them."""
    before = world.log().count("settings read again")
    world.write_settings()
    until(30, "settings read again", lambda: world.log().count("settings read again") > before)


def management_plugin(world):
    """The sample's Platform workspace needs one; its digest is learned from a declaration of it that matches nobody."""
    source = world.plugin("manage", mcp=True, files={"bin/manage": "#!/bin/sh\n"})
    world.apply({"apiVersion": "molecule.ai/v1alpha1", "kind": "DeclaredPlugin", "metadata": {"name": "probe", "namespace": "default"},
                 "spec": {"workspaceRef": {"name": "nobody"}, "source": source}})
    digest = until(30, "digest", lambda: world.declared("probe")["status"]["resolved"]["digest"])
    world.kubectl("delete", "declaredplugins.molecule.ai", "probe")
    world.settings["privilegedPlugins"] = [{"name": "manage", "source": source, "allowedDigests": [digest], "management": True}]
    changed_settings(world)


def surroundings(world, sample):
    """Applies what the sample needs beside itself; returns the objects' names, to be deleted with it."""
    if sample == "declaredplugin-minimal.yaml":
        # The workspace that it names, as the other sample has it.
        world.kubectl("apply", "-f", ROOT / "manifests/samples/workspace-minimal.yaml")
        return ["workspace.molecule.ai/minimal"]
    if sample == "declaredplugin-full.yaml":
        world.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plugins-read", "namespace": "default"},
                                                           "stringData": {"username": "u", "password": "p"}}))
        member = workspace("researcher", world.box("researcher"), [("base-tools", world.plugin("base-tools"))])
        member["metadata"]["labels"] = {"team": "research"}
        world.apply(member)
        return ["workspace.molecule.ai/researcher"]
    return []


def text_of(world, path):
    text = path.read_text().replace("/srv/workspaces", str(world.folder / "srv"))
    for folder in ("w1", "platform"):
        (world.folder / "srv" / folder).mkdir(parents=True, exist_ok=True)
    for theirs, ours in INSTEAD.items():
        text = text.replace(theirs, ours)
    return text


def agent_for(world, name):
    """The agent of a workspace that nobody else starts one for."""
    obj = world.workspace(name)
    box = obj["spec"]["box"]
    if box["type"] == "Directory" and box["directory"].get("run") == "Operator":
        return
    root = world.box(name)
    if box["type"] == "External":  # The administrator carries the token there.
        secret = json.loads(until(30, "the token's Secret", lambda: world.kubectl("get", "secret", f"workspace-{name}-token", "-o", "json", check=False).stdout))
        token = root / "configs/.molecule/token"
        token.parent.mkdir(parents=True, exist_ok=True)
        token.write_bytes(base64.b64decode(secret["data"]["current"]))
        os.chmod(token, 0o600)
    world.agent(name, flags=["--pull"] if box["type"] == "External" else [])


def converge(world, sample, names, ready):
    for name in names:
        kind = name.split(".")[0]

        def get():
            return json.loads(world.kubectl("get", name, "-o", "json").stdout)

        def observed():
            obj = get()
            return obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"] and condition(obj, "Ready")
        until(60, f"{name} is observed", observed)
        if ready and sample not in NOT_HERE:
            if kind == "workspace":
                agent_for(world, name.split("/")[1])
            until(90, f"{name} is Ready", lambda: is_ready(get()))


def check_sample(world, path, flags, ready):
    file = world.folder / path.name
    file.write_text(text_of(world, path) if ready else path.read_text())
    beside = surroundings(world, path.name) if ready else []
    world.kubectl("apply", *flags, "-f", file)
    names = world.kubectl("get", "-f", file, "-o", "name").stdout.split()
    converge(world, path.name, [*[b for b in beside if b.startswith("workspace")], *names], ready)
    done = world.kubectl("diff", *flags, "-f", file, check=False)
    if done.returncode != 0:
        raise Failed(f"kubectl diff {' '.join(flags)} -f {path.name}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    if ready:
        for agent in world.agents:
            agent.stop()
        world.agents.clear()
    world.kubectl("delete", "--wait=false", "-f", file)
    for name in beside:
        world.kubectl("delete", "--wait=false", name)
    for name in [*names, *beside]:
        until(60, f"{name} is deleted", lambda: not world.kubectl("get", name, "--ignore-not-found", "-o", "name").stdout.strip())
    # Nobody collects owned objects on this variant.
    if ready:
        world.kubectl("delete", "secret", "-l", "app.kubernetes.io/managed-by=workspace-operator")


def check_diff(world, ready):
    """Both kinds of apply; the second time a sample finds its box as the first has left it. Without `ready` the operator's first answer is enough."""
    if ready:
        settings_for_samples(world)
        management_plugin(world)
    samples = sorted((ROOT / "manifests/samples").glob("*.yaml"))
    for sample in samples:
        for flags in ([], ["--server-side"]):
            check_sample(world, sample, flags, ready)
    if not ready:
        return f"{len(samples)} samples, applied in both ways"
    for name, why in NOT_HERE.items():
        print(f"gitops: samples: {name} is observed, not Ready: {why}")
    return f"{len(samples) - len(NOT_HERE)} of {len(samples)} samples converged and no sample differs, applied in both ways"
