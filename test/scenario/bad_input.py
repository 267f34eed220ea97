#!/usr/bin/env python3
"""What an administrator can get wrong on a real API server: bad_input.py PROGRAM [NAME...]. Needs WO_API=cluster.

For each the same holds: a condition, an event, a log line or /readyz names it, the operator goes on living, and when it is mended everything
converges without anybody's help. Ends with 'N passed, N failed'.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

from faults import converged_world
from scenarios import expect, platform_world, run_all
from tunnel_proxy import TunnelProxy
from world import ROOT, RUNTIME, Failed, World, condition, declared, holds, is_ready, row, until, workspace

KINDS = ("workspaces.molecule.ai", "declaredplugins.molecule.ai")


def _alive(w):
    expect("the operator lives", w.operator.poll(), None)


def _start(w):
    """Starts the operator without waiting until it is ready."""
    w.start_operator()
    w.url = f"http://127.0.0.1:{w.api.port}"


def not_ready_for(w, *words):
    """/readyz says so and names all the words; so does the log."""
    def answer():
        code, body = w.http("GET", "/readyz")
        return code == 503 and all(word in body.decode() for word in words) and body.decode()
    said = until(30, f"/readyz names {words}", answer)
    until(10, f"the log names {words}", lambda: any(all(word in line for word in words) for line in w.log().splitlines()))
    _alive(w)
    return said


def _install_kinds(w):
    w.kubectl("apply", "--server-side", "--force-conflicts", "-f", ROOT / "crds")
    w.kubectl("wait", "--for=condition=Established", "--timeout=20s", *[f"crd/{kind}" for kind in KINDS])


def converges(w, name="a", plugin="alpha"):
    until(90, f"{name} is Ready with {plugin} loaded", lambda: is_ready(w.workspace(name)) and row(w.workspace(name), plugin).get("loaded"))


def the_kinds_are_missing_at_the_start(w):
    alpha = w.plugin("alpha")
    w.kubectl("delete", "crd", *KINDS)
    _start(w)
    not_ready_for(w, "workspaces", "does not serve this kind; install its CRD")
    _install_kinds(w)
    w.wait_operator()
    w.apply(workspace("a", w.box("a"), [("alpha", alpha)]))
    w.agent("a")
    converges(w)


def the_kinds_are_deleted_and_made_again(w):
    box, agent, beta = converged_world(w)
    w.kubectl("delete", "crd", *KINDS, "--timeout=60s")
    until(30, "the log names the missing kind", lambda: "does not serve this kind" in w.log() or "could not find the requested resource" in w.log())
    _alive(w)
    _install_kinds(w)
    w.apply(workspace("a", box, [("alpha", "gitea://demo/alpha#tag:v1")]), declared("beta", beta, "a"))
    agent.stop()
    token_of_a_namesake(w)
    again = w.agent("a")
    converges(w, plugin="beta")
    # What boot had installed may have got no receipt yet: then its files stayed, and are recorded again.
    expect("alpha is back", row(w.workspace("a"), "alpha").get("loaded"), True)
    # One start of each agent and one restart for what was delivered to the second.
    expect("starts of the runtime", again.boots() <= 4, True)


def token_of_a_namesake(world):
    """The Secret of a workspace that is gone, which nobody here collects, is not taken for the new one's: an event says so."""
    until(30, "an event names the Secret", lambda: "Secret default/workspace-a-token is not owned by this Workspace" in events_of(world, "Workspace", "a"))
    world.kubectl("delete", "secret", "workspace-a-token")


def an_older_schema_drops_the_rows(w):
    """What the API server drops is never written again and again, and nothing is done to a box that could not be written down before."""
    box, agent, beta = converged_world(w)
    drop_from_schema(w, "status", "plugins")
    w.apply(declared("beta", beta, "a"))
    until(60, "the log names the field and the remedy", lambda: "status.plugins" in w.log() and "apply the CRDs" in w.log())
    until(60, "an event too", lambda: "SchemaOutdated: write status.plugins" in events_of(w, "Workspace", "a"))
    version = until(30, "the object", lambda: w.workspace("a")["metadata"]["resourceVersion"])
    holds(5, "what is stored does not go to and fro", lambda: int(w.workspace("a")["metadata"]["resourceVersion"]) < int(version) + 200)
    _alive(w)
    expect("at most the one restart that beta is worth", agent.boots() <= 2, True)
    _install_kinds(w)
    converges(w, plugin="beta")
    expect("alpha is recorded again", row(w.workspace("a"), "alpha").get("loaded"), True)
    expect("starts of the runtime", agent.boots(), 2)


def an_older_schema_drops_the_debt(w):
    """The debt is written before the first byte moves: a server that drops it gets no delivery."""
    box, agent, beta = converged_world(w)
    drop_from_schema(w, "status", "pendingRestart")
    w.apply(declared("beta", beta, "a"))
    until(60, "the log names the field", lambda: "status.pendingRestart" in w.log())
    until(60, "an event too", lambda: "SchemaOutdated: write status.pendingRestart" in events_of(w, "Workspace", "a"))
    expect("nothing is delivered", (box / "configs/plugins/beta").exists(), False)
    _alive(w)
    _install_kinds(w)
    converges(w, plugin="beta")
    expect("starts of the runtime", agent.boots(), 2)


def an_older_schema_drops_the_count_of_restarts(w):
    """A restart for the management tools is counted before it is made: what cannot be counted would never end, and is not made."""
    platform_world(w)
    drop_from_schema(w, "status", "recovery.restarts")
    w.settings["privilegedPlugins"][0]["tools"] = ["never-there"]
    w.write_settings()
    until(10, "settings read again", lambda: w.tail("operator.log", 400).count("settings read again") >= 2)
    w.apply(workspace("p", w.box("p"), kind="Platform"))
    agent = w.agent("p")
    until(60, "the log names the field and the remedy", lambda: "status.recovery.restarts" in w.log() and "apply the CRDs" in w.log())
    until(60, "an event too", lambda: "SchemaOutdated: write status.recovery.restarts" in events_of(w, "Workspace", "p"))
    expect("the gate is told of", condition(w.workspace("p"), "GatePassed")["reason"], "ManagementToolsNotLoaded")
    starts = agent.boots()
    holds(14, "no restart in three cool-downs", lambda: agent.boots() == starts)
    _alive(w)
    _install_kinds(w)
    until(90, "Stalled after three restarts", lambda: w.workspace("p")["status"]["recovery"].get("restarts") == 3 and condition(w.workspace("p"), "Stalled")["status"] == "True")
    # What is written while the API server changes over to the schema may still lose the count once.
    expect("restarts", starts + 3 <= agent.boots() <= starts + 4, True)


def an_older_schema_lacks_a_field_of_the_spec(w):
    """The API server itself names the field; whoever insists gets a workspace with the default in its place."""
    w.up()
    drop_from_schema(w, "spec", "restart")
    wanted = workspace("a", w.box("a"), [("alpha", w.plugin("alpha"))], restart={"policy": "Manual"})

    def refused():
        done = w.kubectl("apply", "-f", "-", stdin=json.dumps(wanted), check=False)
        return done.returncode != 0 and 'unknown field "spec.restart"' in done.stderr
    until(60, "kubectl names the field", refused)
    w.kubectl("apply", "--validate=ignore", "-f", "-", stdin=json.dumps(wanted))
    w.agent("a")
    converges(w)
    _install_kinds(w)
    w.kubectl("apply", "-f", "-", stdin=json.dumps(wanted))
    until(30, "the field is there", lambda: w.workspace("a")["spec"]["restart"]["policy"] == "Manual")
    converges(w)


def drop_from_schema(world, where, field):
    """The CRD of workspaces without that field (a.b: the b of a), as an older one would be; waits until the API server prunes by it."""
    crd = json.loads(world.kubectl("get", "crd", KINDS[0], "-o", "json").stdout)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    *outer, name = field.split(".")
    of = schema["properties"][where]
    for part in outer:
        of = of["properties"][part]
    del of["properties"][name]
    for path in (schema, schema["properties"][where]):  # Rules may speak of it.
        path.pop("x-kubernetes-validations", None)
    patch = [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]
    for column, shown in enumerate(crd["spec"]["versions"][0].get("additionalPrinterColumns", [])):
        if shown["jsonPath"].startswith(f".{where}.{field}"):
            patch.append({"op": "replace", "path": f"/spec/versions/0/additionalPrinterColumns/{column}/jsonPath", "value": ".metadata.name"})
    world.kubectl("patch", "crd", KINDS[0], "--type=json", "-p", json.dumps(patch))


def a_second_operator_has_other_settings(w):
    """With the Lease only one of the two acts: the other says whom it waits for, and whatever it thinks is not written."""
    source = w.plugin("manage", mcp=True, files={"bin/manage": "#!/bin/sh\n"})
    w.api.command = with_election(w, w.api.command)
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box), declared("manage", source, "a"))
    agent = w.agent("a")
    converges(w, plugin="manage")
    # The second one would take the plugin away: to it, it is privileged, and this is an ordinary workspace.
    other = Second(w, {**w.settings, "privilegedPlugins": [{"name": "manage", "source": source, "allowedDigests": ["sha256:" + "0" * 64]}]})
    try:
        until(60, "it stands by and names the leader", lambda: "leader lease" in other.text() and 'ours="false"' in other.text())
        w.poke("a")
        holds(6, "it is not taken away", lambda: is_ready(w.workspace("a")) and (box / "configs/plugins/manage").exists())
        expect("starts of the runtime", agent.boots(), 2)
        w.stop_operator()
        until(60, "the other one leads: its settings count", lambda: "NotEntitled" in str(w.workspace("a")["status"]))
        # A box that does not report to whoever leads is left alone; a Service would lead the agent there.
        agent.stop()
        w.url = re.search(r'ready +url="([^"]+)"', other.text()).group(1)
        agent = w.agent("a")
        until(60, "the plugin is withdrawn", lambda: not (box / "configs/plugins/manage").exists())
    finally:
        other.end()
    w.up()
    agent.stop()
    w.agent("a")
    converges(w, plugin="manage")


def with_election(world, command):
    def elected():
        words = [word for word in command() if word != "--no-leader-election"]
        return [*words, "--operator-namespace", "workspace-operator", "--lease-seconds", "4", "--lease-renew-seconds", "3", "--lease-retry-seconds", "0.5"]
    return elected


class Second:
    """Another operator with settings of its own on the same API server."""

    def __init__(self, world, settings):
        path = world.folder / "second.yaml"
        path.write_text(json.dumps(settings))
        words = [str(word) for word in world.api.command()]
        words[words.index("--http-port") + 1] = "0"
        words[words.index("--data-dir") + 1] = str(world.folder / "second")
        self.log = world.folder / "second.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([world.program, *words, "--settings", str(path)], stdout=log, stderr=log)

    def text(self):
        return self.log.read_text(errors="replace")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def its_rights_on_pods_are_missing_at_the_start(w):
    """The caches wait for a permission, visibly; nobody has to start the operator again when it comes."""
    alpha = w.plugin("alpha")
    rules = json.loads(w.kubectl("get", "clusterrole", "workspace-operator", "-o", "json").stdout)["rules"]
    less = [rule for rule in rules if rule["resources"] != ["pods"]]
    set_rules(w, less)
    _start(w)
    not_ready_for(w, "pods", "is forbidden", "cannot")
    set_rules(w, rules)
    w.wait_operator()
    w.apply(workspace("a", w.box("a"), [("alpha", alpha)]))
    w.agent("a")
    converges(w)


def its_rights_on_secrets_are_missing(w):
    """No token can be made: the workspace says so, others are not held up, and it goes on once the right is there."""
    alpha = w.plugin("alpha")
    rules = json.loads(w.kubectl("get", "clusterrole", "workspace-operator", "-o", "json").stdout)["rules"]
    set_rules(w, [rule for rule in rules if rule["resources"] != ["secrets"]])
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box, [("alpha", alpha)]), declared("private", "gitea://demo/alpha#tag:v1", "nobody", sourceSecretRef={"name": "git"}))
    until(30, "the log names workspace and right", lambda: any("default/a" in line and "secrets" in line and "forbidden" in line for line in w.log().splitlines()))
    until(30, "an event names it", lambda: "cannot get resource \"secrets\"" in events_of(w, "Workspace", "a"))
    until(30, "the source that needs a Secret names it", lambda: "forbidden" in condition(w.declared("private"), "SourceResolved").get("message", ""))
    _alive(w)
    set_rules(w, rules)
    w.agent("a")
    converges(w)


def set_rules(w, rules):
    w.kubectl("patch", "clusterrole", "workspace-operator", "--type=json", "-p", json.dumps([{"op": "replace", "path": "/rules", "value": rules}]))


def events_of(w, kind, name):
    """Reasons and notes, one a line."""
    events = json.loads(w.kubectl("get", "events.events.k8s.io", "-o", "json").stdout)["items"]
    return "\n".join(f"{e['reason']}: {e['note']}" for e in events if e["regarding"]["kind"] == kind and e["regarding"]["name"] == name)


# -- who we are to the API server, and it to us


def token_bound_to(w, secret):
    """A token of the operator's account that dies with a Secret."""
    w.kubectl("-n", "workspace-operator", "create", "secret", "generic", secret)
    return w.kubectl("-n", "workspace-operator", "create", "token", "workspace-operator", "--duration=1h", "--bound-object-kind=Secret",
                     f"--bound-object-name={secret}").stdout.strip()


def refused(w, token):
    done = subprocess.run(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {token}",
                           f"https://127.0.0.1:{w.api.api_port()}/api/v1/namespaces/workspace-operator"], capture_output=True, text=True)
    return done.stdout == "401"


def its_token_is_rotated(w):
    file = w.folder / "token"
    first = token_bound_to(w, "first")
    file.write_text(first)
    w.api.edit_operator_kubeconfig(token=None, tokenFile=file)
    box, agent, beta = converged_world(w)
    # In order: the new token is there before the old one dies.
    file.write_text(token_bound_to(w, "second"))
    w.kubectl("-n", "workspace-operator", "delete", "secret", "first")
    until(60, "the old token is refused", lambda: refused(w, first))
    w.apply(declared("beta", beta, "a"))
    converges(w, plugin="beta")
    # Out of order: it dies first; the log says so, and the new one mends it.
    second, since = file.read_text(), len(w.log())
    w.kubectl("-n", "workspace-operator", "delete", "secret", "second")
    until(60, "the old token is refused", lambda: refused(w, second))
    gamma = w.plugin("gamma")
    w.apply(declared("gamma", gamma, "a"))
    w.kubectl("annotate", "workspaces.molecule.ai", "a", "molecule.ai/reconcile-requested-at=now", "--overwrite")
    until(60, "the log names it", lambda: "nauthorized" in w.log()[since:])
    _alive(w)
    file.write_text(token_bound_to(w, "third"))
    converges(w, plugin="gamma")
    expect("starts of the runtime", agent.boots(), 3)


def the_authority_of_the_api_server_is_rotated(w):
    pki, file = w.api.folder / "pki", w.folder / "ca.crt"
    shutil.copy(pki / "ca.crt", file)
    w.api.edit_operator_kubeconfig(certificate_authority_data=None, certificate_authority=file)
    box, agent, beta = converged_world(w)
    new = new_authority(pki)
    since = len(w.log())
    w.api.part("restart", "apiserver")
    w.kubectl("config", "set-cluster", "cluster", f"--certificate-authority={pki / 'ca.crt'}", "--embed-certs")
    w.apply(declared("beta", beta, "a"))
    until(90, "the log names the certificate", lambda: "check the CA" in w.log()[since:])
    _alive(w)
    file.write_text(new)
    converges(w, plugin="beta")
    expect("starts of the runtime", agent.boots(), 2)


def new_authority(pki):
    """A serving certificate by a new authority, whose certificate is returned; client certificates stay good."""
    script = """set -eu
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=cluster-ca-2 -keyout ca2.key -out ca2.crt
    openssl req -new -key apiserver.key -subj /CN=kube-apiserver -out api.csr
    openssl x509 -req -in api.csr -CA ca2.crt -CAkey ca2.key -CAcreateserial -days 10 -out apiserver.crt \\
      -extfile <(printf 'extendedKeyUsage=serverAuth\\nsubjectAltName=IP:127.0.0.1,DNS:localhost\\n')
    cat ca2.crt >> ca.crt"""
    subprocess.run(["bash", "-c", script], cwd=pki, check=True, capture_output=True)
    return (pki / "ca2.crt").read_text()


def a_proxy_stands_before_the_api_server_and_refuses_for_a_while(w):
    proxy = TunnelProxy("me", "hush:hush")
    try:
        w.api.edit_operator_kubeconfig(proxy_url=f"http://me:hush%3Ahush@{proxy.authority}")
        box, agent, beta = converged_world(w)
        expect("all of it went through the proxy", proxy.opened > 1 and proxy.refused == 0, True)
        since = len(w.log())
        proxy.refuse(True)
        w.apply(declared("beta", beta, "a"))
        until(60, "the log names the proxy", lambda: f"the proxy {proxy.authority} refuses its user or password (407)" in w.log()[since:])
        _alive(w)
        proxy.refuse(False)
        converges(w, plugin="beta")
        expect("starts of the runtime", agent.boots(), 2)
        expect("the password in the log", "hush" in w.log(), False)
    finally:
        proxy.close()


# -- Secrets of sources


def a_source_secret_is_missing_or_malformed(w):
    w.plugin("locked", repository="private/locked")
    box, agent, _ = converged_world(w)
    token = (w.folder / "git/token").read_text().strip()
    w.apply(declared("locked", "gitea://private/locked#tag:v1", "a", sourceSecretRef={"name": "git"}))

    def says(reason, *words):
        return until(60, reason, lambda: (lambda c: c.get("reason") == reason and all(word in c["message"] for word in words))(
            condition(w.declared("locked"), "SourceResolved")))
    says("SecretMissing", "default/git", "does not exist")
    # Each step is mended by what an administrator would do next; nobody asks for a reconcile.
    for data, reason in (({"stringData": {"user": "reader"}}, "SecretMalformed"), ({"data": {"password": ""}}, "SecretMalformed"),
                         ({"data": {"username": "AP8=", "password": "AP8="}}, "SourceUnauthorized"),
                         ({"stringData": {"username": "reader", "password": "wrong"}}, "SourceUnauthorized")):
        w.kubectl("replace", "--force", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git", "namespace": "default"}, **data}))
        w.kubectl("annotate", "declaredplugins.molecule.ai", "locked", f"molecule.ai/reconcile-requested-at={time.time_ns()}", "--overwrite")
        says(reason)
        expect("the workspace goes on with what it has", row(w.workspace("a"), "alpha").get("loaded"), True)
    w.kubectl("replace", "--force", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git", "namespace": "default"},
                                                               "stringData": {"username": "reader", "password": token}}))
    w.kubectl("annotate", "declaredplugins.molecule.ai", "locked", "molecule.ai/reconcile-requested-at=last", "--overwrite")
    converges(w, plugin="locked")
    expect("starts of the runtime", agent.boots(), 2)


# -- names and sizes


def workspaces_are_named_like_kinds_and_short_names(w):
    alpha = w.plugin("alpha")
    w.up()
    names = ["ws", "mws", "mplug", "workspaces", "workspace", "pods", "all", "status", "null", "true"]
    w.apply(*[workspace(name, w.box(name), [("alpha", alpha)]) for name in names], declared("ws", w.plugin("beta"), "ws"))
    for name in names:
        w.agent(name)
    for name in names:
        converges(w, name)
    converges(w, "ws", "beta")
    seen = w.kubectl("get", "workspaces.molecule.ai/ws", "mplug/ws", "-o", "name").stdout.split()
    expect("both kinds are found by name", seen, ["workspace.molecule.ai/ws", "declaredplugin.molecule.ai/ws"])
    w.kubectl("delete", "workspaces.molecule.ai", "ws", "--timeout=30s")
    expect("only that one is gone", len(w.kubectl("get", "mws", "-o", "name").stdout.split()), len(names) - 1)


def a_directory_that_is_not_allowed_has_no_agent(w):
    """The operator would start one there, with its own rights."""
    alpha, box = w.plugin("alpha"), w.box("a")
    (box / "configs/.molecule").mkdir(parents=True)
    w.settings["boxes"]["directoryRoots"] = [str(w.folder / "allowed")]
    w.settings["runtimes"] = {"sample": {"command": [str(RUNTIME), str(box / "runtime-starts")]}}
    w.write_settings()
    w.up()
    a = workspace("a", box, [("alpha", alpha)])
    a["spec"]["box"]["directory"]["run"] = "Operator"
    w.apply(a)
    running = until(20, "it is refused", lambda: (c := condition(w.workspace("a"), "BoxRunning")).get("reason") == "BoxPathNotAllowed" and c)
    expect("the setting is named", "boxes.directoryRoots" in running["message"], True)
    seen = w.workspace("a")
    expect("it has failed at once", (seen["status"]["state"], *(condition(seen, c)["status"] for c in ("Ready", "Stalled", "Reconciling"))), ("Failed", "False", "True", "False"))
    w.poke("a")
    expect("what an agent has left there", sorted(f.name for f in (box / "configs/.molecule").iterdir()), [])
    w.settings["boxes"]["directoryRoots"].append(str(w.folder))
    w.write_settings()
    converges(w)
    w.kubectl("delete", "workspaces.molecule.ai", "a", "--timeout=60s")
    until(20, "its agent has ended", lambda: not subprocess.run(["pgrep", "-f", f"agent --root {box} "], stdout=subprocess.PIPE, check=False).stdout)


def many_plugins_select_one_workspace(w):
    """More than fit: the first ones are served, the others say TooManyPlugins, and the object stays far below what the API server takes."""
    count = int(os.environ.get("WO_MANY_PLUGINS", "500"))
    w.plugin("alpha")
    w.up()
    box = w.box("a")
    w.apply(workspace("a", box))
    agent = w.agent("a")
    until(30, "Ready", lambda: is_ready(w.workspace("a")))
    for first in range(0, count, 500):
        w.create([declared(f"p{n:05}", "gitea://demo/alpha#tag:v1", "a", pluginName=f"p{n:05}") for n in range(first, min(count, first + 500))])
    w.apply(declared("alpha", "gitea://demo/alpha#tag:v1", "a"))
    until(120 + count / 20, "the last one says TooManyPlugins", lambda: "TooManyPlugins" in str(w.declared(f"p{count - 1:05}").get("status")))
    until(120, "alpha, the first by name, is loaded", lambda: row(w.workspace("a"), "alpha").get("loaded"))
    seen = w.workspace("a")
    size = len(json.dumps(seen))
    print(f"        {count} plugins: {len(seen['status']['plugins'])} rows, the object has {size} bytes", flush=True)
    expect("at most 128 rows", len(seen["status"]["plugins"]) <= 128, True)
    expect("below 256 KiB", size < 256 << 10, True)
    expect("starts of the runtime", agent.boots(), 2)
    _alive(w)
    # A busy API server ends a request after a minute, however much of it is done.
    until(300, "all are deleted", lambda: w.kubectl("delete", "--raw", "/apis/molecule.ai/v1alpha1/namespaces/default/declaredplugins", timeout=100, check=False).returncode == 0)
    w.apply(declared("alpha", "gitea://demo/alpha#tag:v1", "a"))
    until(120 + count / 20, "Ready when the others are gone", lambda: is_ready(w.workspace("a")) and row(w.workspace("a"), "alpha").get("loaded"))


# -- hands in the status and the finalizers


def patch_status(w, patch, kind="json"):
    w.kubectl("patch", "workspaces.molecule.ai", "a", "--subresource=status", f"--type={kind}", "-p", json.dumps(patch))


def the_status_is_edited_by_hand(w):
    """The box is asked, not the status: whatever somebody writes there is put right, and nothing is delivered or restarted for it."""
    box, agent, beta = converged_world(w)
    w.apply(declared("beta", beta, "a"))
    converges(w, plugin="beta")
    foreign = box / "configs/plugins/foreign"
    foreign.mkdir()
    (foreign / "plugin.yaml").write_text("name: foreign\nversion: 1.0.0\n")
    good = w.workspace("a")["status"]
    places = {name: (box / "configs/plugins" / name).stat().st_ino for name in ("alpha", "beta")}

    def put_right(what, also=lambda seen: True):
        w.poke("a")
        until(30, f"{what}: put right", lambda: (lambda seen: is_ready(seen) and rows(seen) == rows({"status": good}) and also(seen))(w.workspace("a")))
        expect(f"{what}: starts of the runtime", agent.boots(), 2)
        expect(f"{what}: nothing was delivered", {n: (box / "configs/plugins" / n).stat().st_ino for n in places}, places)
        expect(f"{what}: foreign files stay", foreign.exists(), True)

    def rows(seen):
        return [(p["name"], p["digest"], p["revision"], p["loaded"]) for p in seen["status"]["plugins"]]

    patch_status(w, [{"op": "replace", "path": "/status/plugins", "value": []}])
    put_right("all rows deleted")
    patch_status(w, [{"op": "replace", "path": "/status/plugins/1/digest", "value": "sha256:" + "0" * 64},
                     {"op": "replace", "path": "/status/plugins/1/revision", "value": "f" * 40}, {"op": "replace", "path": "/status/plugins/1/loaded", "value": False}])
    put_right("a digest changed")
    forged = {**good["plugins"][1], "name": "foreign", "origin": "Delivered", "deletionPolicy": "Remove"}
    patch_status(w, [{"op": "add", "path": "/status/plugins/-", "value": forged}, {"op": "add", "path": "/status/plugins/-", "value": {**forged, "name": "never-was"}}])
    put_right("rows forged")
    boot = good["agent"]["bootID"]
    patch_status(w, {"status": {"pendingRestart": {"plugins": ["alpha"], "bootID": boot, "since": "2026-01-01T00:00:00Z", "epoch": 7}}}, "merge")
    put_right("a debt forged", lambda seen: not seen["status"].get("pendingRestart"))
    patch_status(w, {"status": {"state": "Offline", "observedGeneration": 1000, "conditions": None}}, "merge")
    put_right("state and conditions forged", lambda seen: seen["status"]["state"] == "Online")
    patch_status(w, {"status": None}, "merge")
    put_right("the whole status deleted")
    w.kubectl("delete", "declaredplugins.molecule.ai", "beta")
    until(30, "beta is still ours to remove", lambda: not (box / "configs/plugins/beta").exists())
    expect("foreign files stay", foreign.exists(), True)


def the_finalizer_is_removed_by_hand(w):
    box, agent, beta = converged_world(w)
    w.apply(declared("beta", beta, "a"))
    converges(w, plugin="beta")
    w.kubectl("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    until(30, "it is back", lambda: "molecule.ai/workspace" in str(w.workspace("a")["metadata"].get("finalizers")) or w.workspace("a")["metadata"].get("finalizers"))
    # Somebody's own finalizer beside ours is theirs; ours taken away while the object is being deleted lets it go at once, without a word of ours left.
    w.kubectl("patch", "workspaces.molecule.ai", "a", "--type=json", "-p", '[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/theirs"}]')
    w.poke("a")
    expect("both are there", len(w.workspace("a")["metadata"]["finalizers"]), 2)
    shutil.move(box, str(box) + "-away")
    w.kubectl("delete", "workspaces.molecule.ai", "a", "--wait=false")
    until(30, "Terminating", lambda: w.workspace("a")["status"]["state"] == "Terminating")
    w.kubectl("patch", "workspaces.molecule.ai", "a", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    until(30, "gone", lambda: "NotFound" in w.kubectl("get", "workspaces.molecule.ai", "a", check=False).stderr)
    shutil.move(str(box) + "-away", box)
    w.apply(workspace("a", box, [("alpha", "gitea://demo/alpha#tag:v1")]))
    agent.stop()
    token_of_a_namesake(w)
    w.agent("a")
    converges(w)
    _alive(w)


if __name__ == "__main__":
    if os.environ.get("WO_API") != "cluster":
        sys.exit("bad_input.py needs a real API server: WO_API=cluster")
    run_all(globals())
