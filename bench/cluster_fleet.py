"""A fleet on a real API server, for bench/cluster: etcd is filled with copies of objects that the real operator brought to rest.

Copies go straight into etcd, in the API server's own encoding, while it is stopped: 240,000 writes through it would take it ten minutes.
"""
import base64
import calendar
import collections
import concurrent.futures
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "test/scenario"), str(ROOT / "test/cluster")]
from api_client import Api  # noqa: E402
from world import Failed, World, condition, declared, free_port, is_ready, until, workspace  # noqa: E402

OPERATOR = "workspace-operator"  # Its namespace, its account and its Lease.
EACH = 5  # Plugins of a workspace.
TEAM = 50  # Workspaces of a namespace.
NEVER = {"resyncSeconds": 2592000}  # The longest there is: 30 days.
PATIENT = ["--lease-seconds", 300, "--lease-renew-seconds", 290]  # A leader that outlives the restart of an API server on a busy machine.
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def moment(text):
    """An audit log's or a log line's time stamp in seconds since 1970."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (fraction or "0"))


def hexes(text, digits):
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def uid(text):
    h = hexes(text, 32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}"


def process_cpu(pid):
    """Seconds, all threads, ended ones included."""
    return time.clock_gettime((~pid << 3) | 2)


class Replica:
    """The operator as its Deployment runs it: signed in with its service account, contending for the Lease."""

    def __init__(self, fleet, name, *flags):
        self.fleet, self.log = fleet, fleet.folder / f"replica-{name}-{time.time_ns()}.log"
        arguments = [fleet.program, "run", "--kubeconfig", fleet.api.operator_kubeconfig, "--data-dir", fleet.folder / f"data-{name}", "--settings",
                     fleet.folder / "settings.yaml", "--operator-namespace", OPERATOR, *flags]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(a) for a in arguments], stdout=log, stderr=log)
        self.pid = self.process.pid
        fleet.replicas.append(self)

    def warm(self, seconds=600):
        """Waits until the caches are full and it listens; leading or standing by."""
        def url():
            if self.process.poll() is not None:
                raise Failed(f"the operator ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            return re.search(r" ready .*?(https?://[^\s\"]+)", self.log.read_text())
        self.url = until(seconds, "the operator's caches are full", url).group(1)
        return self

    def cpu(self):
        return process_cpu(self.pid)

    def memory(self, field="VmRSS"):
        """MB."""
        return int(re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(f"/proc/{self.pid}/status").read_text(), re.M).group(1)) * 1024 / 1e6

    def http(self, path):
        # It is told at start where it listens: whom we talk to is not in doubt.
        with urllib.request.urlopen(self.url + path, timeout=20, context=ssl._create_unverified_context()) as answer:
            return answer.read().decode()

    def metrics(self):
        """Sums over all labels but `controller` and `informer`."""
        sums = {}
        for name, labels, value in re.findall(r"^(\w+)(\{.*\})? (\S+)$", self.http("/metrics"), re.M):
            whose = re.search(r'(?:controller|informer)="([^"]*)"', labels)
            for key in {name, f"{name}:{whose.group(1)}" if whose else name}:
                sums[key] = sums.get(key, 0) + float(value)
        return sums

    def reconciles(self):
        return self.metrics().get("controller_runtime_reconcile_total", 0)

    def knows(self, workspaces):
        """The first pass of each has read its token."""
        return self.metrics().get("workspace_operator_heartbeat_slots", 0) >= workspaces

    def end(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)


class Fleet(World):
    """The operator is run by Replica; World's own one only makes the objects that are copied."""

    def __init__(self, program, settings=None):
        os.environ["WO_API"] = "cluster"
        self.replicas = []
        super().__init__(program, settings)
        self.cluster = self.api.folder
        self.admin = Api(self.api.kubeconfig)

    def use(self, **timing):
        """Settings of replicas that are started from now on: the defaults, but for these."""
        self.settings["timing"] = timing
        self.write_settings()

    def close(self):
        for replica in self.replicas:
            if replica.process.poll() is None:
                replica.end()
        super().close()

    # -- etcd

    def etcd(self, call, body):
        port = re.search(r"^etcd_port=(\d+)", (self.cluster / "cluster.env").read_text(), re.M).group(1)
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
        connection.request("POST", f"/v3/kv/{call}", json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Failed(f"etcd {call}: {answer.status} {text[:300]}")
        connection.close()
        return json.loads(text)

    def read(self, key):
        return base64.b64decode(self.etcd("range", {"key": base64.b64encode(key.encode()).decode()})["kvs"][0]["value"]).decode()

    def write(self, pairs):
        """pairs: an iterator of (key, text). 100 a transaction, four transactions at a time."""
        def put(batch):
            return self.etcd("txn", {"success": [{"requestPut": {"key": base64.b64encode(k.encode()).decode(), "value": base64.b64encode(v.encode()).decode()}}
                                                 for k, v in batch]})
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            running, batch, count = set(), [], 0
            for pair in pairs:
                batch.append(pair)
                count += 1
                if len(batch) == 100:
                    if len(running) >= 8:
                        done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                        [one.result() for one in done]
                    running.add(pool.submit(put, batch))
                    batch = []
            if batch:
                put(batch)
            [one.result() for one in running]
        return count

    # -- the objects that are copied

    def quiet_seed(self):
        """A workspace with five plugins that is Ready, then suspended with all of them: nothing is left to do, and its status is full."""
        self.up()
        sources = {f"seedplugin{i}": self.plugin(f"seedplugin{i}") for i in range(EACH)}
        self.apply(workspace("seedworkspace", self.box("seedworkspace")))
        agent = self.agent("seedworkspace")
        self.apply(*[declared(f"seedworkspace-{name}", source, "seedworkspace", pluginName=name) for name, source in sources.items()])
        until(60, "the seed is Ready", lambda: is_ready(self.workspace("seedworkspace")) and len(self.workspace("seedworkspace")["status"]["plugins"]) == EACH)
        agent.stop()
        for kind, names in (("workspaces", ["seedworkspace"]), ("declaredplugins", [f"seedworkspace-{name}" for name in sources])):
            for name in names:
                self.kubectl("patch", f"{kind}.molecule.ai", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
        until(60, "the seed is suspended", lambda: self.workspace("seedworkspace")["status"]["state"] == "Suspended"
              and all(condition(self.declared(f"seedworkspace-{name}"), "Ready").get("reason") == "Suspended" for name in sources))
        examined = 'controller_runtime_reconcile_time_seconds_count{controller="workspace"}'
        passes = self.metric(examined)
        until(60, "passes that change nothing", lambda: self.metric(examined) >= passes + 3)
        self.stop_operator()

    def seed_keys(self):
        yield "workspaces", "/registry/molecule.ai/workspaces/default/seedworkspace"
        for i in range(EACH):
            yield "declaredplugins", f"/registry/molecule.ai/declaredplugins/default/seedworkspace-seedplugin{i}"

    def templates(self):
        """The seed's objects with places for what differs: (key, text, times in it)."""
        objects = [(kind, self.read(key)) for kind, key in self.seed_keys()]
        places = {"seedworkspace": "@WS@", json.loads(objects[0][1])["metadata"]["uid"]: "@WUID@"}
        rows = {row["name"]: row for row in json.loads(objects[0][1])["status"]["plugins"]}
        for i, (_, text) in enumerate(objects[1:]):
            row = rows[f"seedplugin{i}"]
            places.update({f"seedplugin{i}": f"@P{i}@", json.loads(text)["metadata"]["uid"]: f"@PUID{i}@", row["revision"]: f"@COMMIT{i}@",
                           row["digest"].partition(":")[2]: f"@DIGEST{i}@"})
        made = []
        for kind, text in objects:
            for old, new in places.items():
                text = text.replace(old, new)
            # The namespace, in the object and in its last-applied annotation.
            text = text.replace('"namespace":"default"', '"namespace":"@NS@"').replace('\\"namespace\\":\\"default\\"', '\\"namespace\\":\\"@NS@\\"')
            times = sorted(set(TIME.findall(text)))
            for n, at in enumerate(times):
                text = text.replace(at, f"@T{n}@")
            made.append((kind, text, [moment(at) for at in times]))
        return made

    def copies(self, templates, workspaces):
        """Every workspace has five of 2,000 plugins with three releases each."""
        place = re.compile(r"@([A-Z]+)(\d*)@")
        for w in range(workspaces):
            values = {"NS": f"team-{w // TEAM}", "WS": f"ws-{w:05}", "WUID": uid(f"w{w}")}
            plugins = sorted((int(hexes(f"w{w}", 6), 16) + i * 401) % 2000 for i in range(EACH))
            for i, plugin in enumerate(plugins):
                release = f"{plugin}.{int(hexes(f'r{w}.{i}', 4), 16) % 3}"
                values.update({f"P{i}": f"plugin-{plugin:04}", f"PUID{i}": uid(f"p{w}.{i}"), f"COMMIT{i}": hexes("c" + release, 40), f"DIGEST{i}": hexes("d" + release, 64)})
            back = int(hexes(f"t{w}", 6), 16) % 1_000_000
            for n, (kind, text, times) in enumerate(templates):
                at = {f"T{k}": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t - back)) for k, t in enumerate(times)}
                name = values["WS"] if n == 0 else f"{values['WS']}-{values[f'P{n - 1}']}"
                yield (f"/registry/molecule.ai/{kind}/{values['NS']}/{name}",
                       place.sub(lambda m: values.get(m.group(1) + m.group(2)) or at[m.group(1) + m.group(2)], text))
            yield self.secret(values)

    def secret(self, values):
        name = f"workspace-{values['WS']}-token"
        return (f"/registry/secrets/{values['NS']}/{name}", json.dumps({
            "apiVersion": "v1", "kind": "Secret", "type": "molecule.ai/instance-token",
            "metadata": {"name": name, "namespace": values["NS"], "uid": uid("s" + values["WUID"]), "creationTimestamp": "2026-11-01T00:00:00Z",
                         "labels": {"app.kubernetes.io/managed-by": OPERATOR, "molecule.ai/workspace": values["WS"]},
                         "ownerReferences": [{"apiVersion": "molecule.ai/v1alpha1", "kind": "Workspace", "name": values["WS"], "uid": values["WUID"]}]},
            "data": {"current": base64.b64encode(token(values["WS"]).encode()).decode()}}))

    def fill(self, workspaces):
        """Returns how many objects of ours there are in the end, the seeds included."""
        for n in range((workspaces + TEAM - 1) // TEAM):
            self.admin.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"team-{n}"}})
        templates = self.templates()
        self.api.part("kill", "apiserver")
        self.write(self.copies(templates, workspaces))
        self.start_api()
        return (workspaces + 1) * (1 + EACH)

    def start_api(self):
        """Waits for the API server's own caches, too: before, it answers watches with 429."""
        self.api.part("start", "apiserver")
        self.admin = Api(self.api.kubeconfig)
        for kind in ("workspaces", "declaredplugins"):
            look = f"/apis/molecule.ai/v1alpha1/{kind}?watch=1&resourceVersion=0&timeoutSeconds=1&fieldSelector=metadata.name%3Dnone"
            until(900, f"the API server's cache of {kind}", lambda: self.admin.call("GET", look)[0] == 200)

    # -- the Lease

    def hold_lease(self, holder):
        """Gives the Lease to `holder`; an empty one: it is free for whoever stands by."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR}/leases"
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 3600 if holder else 1, "renewTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
                "acquireTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()), "leaseTransitions": 1}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": OPERATOR, "namespace": OPERATOR}, "spec": spec}
        status, answer = self.admin.call("POST", path, body)
        if status == 409:
            status, answer = self.admin.call("PATCH", f"{path}/{OPERATOR}", {"spec": spec}, "application/merge-patch+json")
        if status not in (200, 201):
            raise Failed(f"the Lease was not written: {status} {answer}")

    def holder(self):
        return self.admin.call("GET", f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR}/leases/{OPERATOR}")[1]["spec"]["holderIdentity"]

    # -- what reached the API server

    def audit(self, since, until_=float("inf")):
        """(time, verb, resource, query) of the operator's requests; those on its Lease left out."""
        seen = {}
        with open(self.cluster / "audit.log") as log:
            for line in log:
                if f'"system:serviceaccount:{OPERATOR}:{OPERATOR}"' not in line or '"resource":"leases"' in line:
                    continue
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # The last line is being written.
                at = moment(entry["requestReceivedTimestamp"])
                if since <= at <= until_:
                    seen[entry["auditID"]] = (at, entry["verb"], entry.get("objectRef", {}).get("resource"), entry["requestURI"].partition("?")[2])
        return sorted(seen.values(), key=lambda one: one[0])


def kinds(asked):
    """What was asked, for the log."""
    counts = collections.Counter(f"{verb} {resource}" for _, verb, resource, _ in asked)
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


def token(name):
    return hexes("token of " + name, 64)
