"""A world for one scenario: a real git server, the real operator, real kubectl, boxes with real agents and runtimes.

Everything is started by this process, listens on loopback, lives below one temporary folder and is gone afterwards. Nothing sleeps for an
effect: every wait is for a condition, with a deadline that prints what was seen last.

The API is the embedded one (`workspace-operator dev`). With WO_API=cluster it is a real API server and etcd of test/cluster, fresh for each
world, and the operator is `workspace-operator run`.
"""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from api_proxy import ApiProxy

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBECTL = ROOT / ".cache/bin/kubectl"
GIT_SERVER = ROOT / "test/e2e/git_server"
CLUSTER = ROOT / "test/cluster"
PATIENCE = float(os.environ.get("WO_PATIENCE", "3"))  # Deadlines are for an idle machine, times this: others may be building on it.
# Whoever ends a suite, or a time limit that does, wants what it has started gone too: what stands in `finally` is done.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
RUNTIME = ROOT / "manifests/samples/quickstart/runtime/sample-runtime"


class Failed(Exception):
    """A scenario does not hold; the text says what was wanted and what was observed."""


def until(seconds, what, probe):
    """Polls probe() until it is truthy and returns that; Failed with the last value after `seconds`."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        try:
            value = probe()
        except (subprocess.CalledProcessError, json.JSONDecodeError, OSError, KeyError, IndexError, TypeError) as error:
            value, last = None, repr(error)
        else:
            last = value
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds * PATIENCE:.0f} s; seen last: {last}")
        time.sleep(0.05)


def free_port():
    """A loopback port to listen on. Below the range of outgoing connections: one of those, ended a minute ago or less, keeps a port as well."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no free port below 32000")


def holds(seconds, what, probe):
    """probe() stays truthy for `seconds`: for what must not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not probe():
            raise Failed(f"{what}: it did not stay so")
        time.sleep(0.05)


def parts_in_order(log):
    """The parts of an operator in the order of their start, by its log at level debug. Failed unless each was started when the one before was ready,
    and, where it stops, each was asked to when the one that was started after it had ended."""
    told = re.findall(r'part (starts|is ready|is to stop|has ended)\b.*?\bpart="?([\w-]+)', log)
    started = [name for what, name in told if what == "starts"]
    waited = {name for what, name in told if what == "is ready"}
    stops = [one for one in told if one[0] in ("is to stop", "has ended")]
    for name, following in zip(started, started[1:]):
        if name in waited and told.index(("is ready", name)) > told.index(("starts", following)):
            raise Failed(f"{following} was started before {name} was ready: {told}")
    if stops and stops != [(what, name) for name in reversed(started) for what in ("is to stop", "has ended")]:
        raise Failed(f"started {started}, stopped {stops}")
    return started


class Agent:
    def __init__(self, world, name, root, arguments):
        self.root, self.log = root, world.folder / f"agent-{name}.log"
        self.starts = root / "runtime-starts"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, env={**os.environ, **world.agent_environment})

    def boots(self):
        """How often the runtime was started."""
        return len(self.starts.read_text().splitlines()) if self.starts.exists() else 0

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed("the agent did not stop within 12 s of SIGTERM")


class Embedded:
    """The API server inside of the operator's own process."""

    def __init__(self, world):
        self.data = world.data
        self.kubeconfig = self.data / "kubeconfig"
        self.settings = {}

    def command(self):
        return ["dev", "--data-dir", self.data]

    def url(self, out, _log):
        return re.search(r"^operator: (\S+)", out, re.M).group(1) if re.search(r"^ready", out, re.M) else None

    def close(self):
        pass


class Cluster:
    """A real API server; the operator is a process beside it, at a port that stays the same when it is started again."""

    def __init__(self, world):
        self.world, self.folder = world, world.folder / "cluster"
        self.kubeconfig = self.folder / "kubeconfig"
        self.settings = {"boxes": {"directoryRoots": ["/"]}}
        self.proxy = None
        self.port = free_port()
        self.run("up", "api", "--dir", self.folder, "--audit", *os.environ.get("WO_CLUSTER_UP", "").split())
        try:
            self.install()
            self.kubectl("wait", "--for=condition=Established", "--timeout=20s", "-f", ROOT / "crds")
            self.operator_kubeconfig = self.sign_in("workspace-operator", self.operator_namespace)
        except BaseException:
            self.close()
            raise

    operator_namespace = "workspace-operator"

    def install(self):
        self.kubectl("apply", "--server-side", "-f", ROOT / "manifests/install.yaml")

    def kubectl(self, *arguments):
        result = subprocess.run([KUBECTL, *arguments], capture_output=True, text=True, env={**os.environ, "KUBECONFIG": str(self.kubeconfig)})
        if result.returncode != 0:
            raise Failed(f"kubectl {' '.join(map(str, arguments))}: {result.stderr}")
        return result.stdout

    def sign_in(self, account, namespace):
        """A kubeconfig with a token of the operator's own service account: it may do what manifests/ grant, and nothing else."""
        token = self.kubectl("create", "token", account, "--namespace", namespace, "--duration", "2h").strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--output", "json"))
        config["users"][0]["user"] = {"token": token}
        path = self.folder / f"{account}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def edit_operator_kubeconfig(self, **fields):
        """Sets members of its cluster or user, e.g. server, tokenFile; None takes one away."""
        config = json.loads(self.operator_kubeconfig.read_text())
        for name, value in fields.items():
            where = config["users"][0]["user"] if name.startswith("token") else config["clusters"][0]["cluster"]
            name = name.replace("_", "-") if "_" in name else name
            where.pop(name, None)
            if value is not None:
                where[name] = str(value)
        self.operator_kubeconfig.write_text(json.dumps(config))

    def api_port(self):
        return int(re.search(r"server: \S+:(\d+)", self.kubeconfig.read_text()).group(1))

    def through_proxy(self):
        """Before the operator is started: it then talks to an ApiProxy, which is returned. kubectl does not."""
        self.proxy = ApiProxy(self.folder, self.api_port())
        self.edit_operator_kubeconfig(server=self.proxy.url)
        return self.proxy

    def run(self, script, *arguments):
        done = subprocess.run([CLUSTER / script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failed(f"test/cluster/{script}: {done.stdout}")

    def part(self, verb, name):
        """kill, start, restart, pause, resume ... a process of the cluster."""
        self.run("part", verb, name, "--dir", self.folder)

    def command(self):
        return ["run", "--kubeconfig", self.operator_kubeconfig, "--data-dir", self.world.data, "--http-port", str(self.port), "--no-leader-election"]

    def url(self, _out, log):
        found = re.findall(r"\bready\b.*\burl=\"?(http[^\s\"]+)", log)
        return found[-1] if found else None

    def close(self):
        if self.proxy:
            self.proxy.close()
        if self.folder.exists():
            self.run("down", "--dir", self.folder)


class World:
    namespace = "default"

    def __init__(self, program, settings=None):
        self.program = str(program)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="wo-scenario-"))
        self.data = self.folder / "data"
        self.operator = None
        self.agents = []
        self.agent_environment = {}
        self.log_start = 0
        self.api = Cluster(self) if os.environ.get("WO_API") == "cluster" else Embedded(self)
        self.environment = {**os.environ, "KUBECONFIG": str(self.api.kubeconfig), "KUBECACHEDIR": str(self.folder / "kubecache")}
        self.git_url = self._start_git()
        self.settings = {
            "sources": {"giteaURL": self.git_url, "plainHTTPHosts": [self.git_url.removeprefix("http://")]},
            "timing": {"resyncSeconds": 2, "backoffBaseSeconds": 0.2, "backoffMaxSeconds": 2, "slowRetrySeconds": 3, "restartWaitSeconds": 10,
                       "gatherSeconds": 0.3},
        }
        for key, value in {**self.api.settings, **(settings or {})}.items():
            self.settings.setdefault(key, {}).update(value) if isinstance(value, dict) else self.settings.__setitem__(key, value)
        self.write_settings()

    # -- parts

    def _start_git(self):
        subprocess.run([GIT_SERVER, "start", self.folder / "git"], check=True, capture_output=True)
        return "http://127.0.0.1:" + (self.folder / "git/port").read_text().strip()

    def write_settings(self):
        (self.folder / "settings.yaml").write_text(json.dumps(self.settings))

    def plugin(self, name, tag="v1", files=None, mcp=False, repository=None):
        """Makes (or moves) a plugin repository demo/NAME and returns its gitea:// source."""
        tree = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        manifest = f"name: {name}\nversion: 1.0.0\ndescription: test plugin {name}\n"
        if mcp:
            manifest += f"mcpServers:\n  {name}:\n    command: bin/{name}\n"
        (tree / "plugin.yaml").write_text(manifest)
        for path, text in (files or {"README": f"{name} {tag}\n"}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        where = repository or f"demo/{name}"
        subprocess.run([GIT_SERVER, "add", self.folder / "git", where, tree, tag], check=True, capture_output=True)
        return f"gitea://{where}#tag:{tag}"

    def boot_install(self, root, name, tag="v1"):
        """What a box's own boot does: the plugin's files, no record anywhere."""
        target = root / "configs/plugins" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", "-c", "advice.detachedHead=false", "--branch", tag, f"{self.git_url}/demo/{name}.git", target],
                       check=True, capture_output=True)
        shutil.rmtree(target / ".git")

    def start_operator(self, failpoints=""):
        out = open(self.folder / "operator.out", "wb")
        log = open(self.folder / "operator.log", "ab")
        self.log_start = log.tell()
        self.operator = subprocess.Popen([self.program, *self.api.command(), "--settings", self.folder / "settings.yaml"],
                                         stdout=out, stderr=log, env={**os.environ, "WORKSPACE_OPERATOR_FAILPOINTS": failpoints})
        out.close()
        log.close()

    def wait_operator(self, seconds=15):
        def ready():
            if self.operator.poll() is not None:
                raise Failed(f"the operator ended with {self.operator.returncode}: {self.tail('operator.log')}")
            return self.api.url((self.folder / "operator.out").read_text(), (self.folder / "operator.log").read_bytes()[self.log_start:].decode())
        self.url = until(seconds, "operator ready", ready)
        return self

    def up(self, failpoints=""):
        self.start_operator(failpoints)
        return self.wait_operator()

    def kill_operator(self):
        self.operator.send_signal(signal.SIGKILL)
        self.operator.wait()

    def stop_operator(self):
        self.operator.terminate()
        begin = time.monotonic()
        try:
            code = self.operator.wait(12)
        except subprocess.TimeoutExpired:
            self.kill_operator()
            raise Failed("the operator did not stop within 12 s of SIGTERM")
        if code not in (0, -signal.SIGTERM) or time.monotonic() - begin > 10:
            raise Failed(f"SIGTERM: exit {code} after {time.monotonic() - begin:.1f} s")

    def box(self, name):
        root = self.folder / f"box-{name}"
        root.mkdir(exist_ok=True)
        return root

    def agent(self, name, root=None, flags=(), boot_install=False, period=0.3, runtime=RUNTIME):
        root = root or self.box(name)
        until(10, f"token in the box of {name}", lambda: (root / "configs/.molecule/token").exists())
        arguments = [self.program, "agent", "--root", root, "--operator-url", self.url, "--workspace", f"{self.namespace}.{name}", "--runtime", "sample",
                     "--period", str(period), *([] if boot_install else ["--no-boot-install"]), *flags, "--", runtime, root / "runtime-starts"]
        agent = Agent(self, name, root, [str(a) for a in arguments])
        self.agents.append(agent)
        return agent

    # -- talking to it

    def kubectl(self, *arguments, stdin=None, check=True, timeout=60):
        result = subprocess.run([KUBECTL, *arguments], input=stdin, capture_output=True, text=True, env=self.environment, timeout=timeout)
        if check and result.returncode != 0:
            raise subprocess.CalledProcessError(result.returncode, result.args, result.stdout, result.stderr)
        return result

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", stdin="# YAML, whatever it begins with\n" + "\n---\n".join(json.dumps(o) for o in objects))

    def create(self, objects):
        """Many at once."""
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), timeout=900)

    def get(self, kind, name):
        return json.loads(self.kubectl("get", f"{kind}.molecule.ai", name, "-o", "json").stdout)

    def workspace(self, name):
        return self.get("workspaces", name)

    def declared(self, name):
        return self.get("declaredplugins", name)

    def events(self, name):
        """Events about the Workspace `name`."""
        found = self.kubectl("get", "events", "--field-selector", f"involvedObject.kind=Workspace,involvedObject.name={name}", "-o", "json").stdout
        return json.loads(found)["items"]

    def poke(self, name, value=None):
        """Asks for a reconcile and waits until it is handled."""
        value = value or str(time.time_ns())
        self.kubectl("annotate", "workspaces.molecule.ai", name, f"molecule.ai/reconcile-requested-at={value}", "--overwrite")
        until(15, "the requested pass", lambda: self.workspace(name)["status"].get("lastHandledReconcileAt") == value)

    def metrics(self):
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.M)
        return float(found.group(1)) if found else None

    def http(self, method, path, token=None, body=None):
        request = urllib.request.Request(self.url + path, method=method, data=body)
        if token:
            request.add_header("Authorization", "Bearer " + token)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def log(self):
        """Of the operator since it was started last."""
        return (self.folder / "operator.log").read_bytes()[self.log_start:].decode(errors="replace")

    def tail(self, name, lines=30):
        path = self.folder / name
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def close(self):
        for agent in self.agents:
            try:
                agent.stop()  # It ends its runtime, which would outlive a kill.
            except Failed:
                pass
        if self.operator and self.operator.poll() is None:
            self.operator.kill()
            self.operator.wait()
        subprocess.run([GIT_SERVER, "stop", self.folder / "git"], check=False, capture_output=True)
        self.api.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def workspace(name, box, plugins=(), **spec):
    return {"apiVersion": "molecule.ai/v1alpha1", "kind": "Workspace", "metadata": {"name": name, "namespace": "default", "labels": {"team": "t"}},
            "spec": {"runtime": "sample", "box": {"type": "Directory", "directory": {"path": str(box), "run": "External"}},
                     "heartbeat": {"periodSeconds": 1, "timeoutSeconds": 5},
                     **({"plugins": [{"name": n, "source": s} for n, s in plugins]} if plugins else {}), **spec}}


def declared(name, source, target=None, **spec):
    return {"apiVersion": "molecule.ai/v1alpha1", "kind": "DeclaredPlugin", "metadata": {"name": name, "namespace": "default"},
            "spec": {**({"workspaceRef": {"name": target}} if target else {"workspaceSelector": {"matchLabels": {"team": "t"}}}), "source": source, **spec}}


def condition(obj, kind):
    return next((c for c in obj.get("status", {}).get("conditions", []) if c["type"] == kind), {})


def is_ready(obj):
    return condition(obj, "Ready").get("status") == "True" and obj["status"]["observedGeneration"] == obj["metadata"]["generation"]


def row(obj, name):
    return next((p for p in obj.get("status", {}).get("plugins", []) if p["name"] == name), {})
