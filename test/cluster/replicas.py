"""Two replicas of the operator in the node's network namespace, one Lease, behind a Service; ended ones are started again as a kubelet would."""
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

from api_client import Api
from api_proxy import ApiProxy
from node_world import DIR, NODE, PORT, ROOT, World
from world import Failed, until

ADDRESS = "10.96.0.77"   # Of the Service that agents report to.
LEASE, RENEW, RETRY = 4, 3, 0.4
KILLED, LEASE_LOST, NOT_SYNCED = -signal.SIGKILL, 5, 6
UNCHECKED = ssl._create_unverified_context()  # pylint: disable=protected-access  # Only for reading metrics of our own processes.


class Replica:
    def __init__(self, world, name, port):
        self.world, self.name, self.port, self.process = world, name, port, None
        self.log = world.folder / f"operator-{name}.log"

    def start(self, failpoints=""):
        arguments = [self.world.program, "run", "--kubeconfig", self.world.folder / "operator.kubeconfig", "--operator-namespace", "workspace-operator",
                     "--data-dir", self.world.folder / f"data-{self.name}", "--settings", self.world.folder / "settings.yaml",
                     "--http-address", NODE, "--http-port", self.port, "--tls", "--tls-name", ADDRESS, "--tls-name", NODE,
                     "--lease-seconds", LEASE, "--lease-renew-seconds", RENEW, "--lease-retry-seconds", RETRY]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(a) for a in arguments], stdout=log, stderr=log,
                                            env={**os.environ, "WORKSPACE_OPERATOR_FAILPOINTS": failpoints})

    def get(self, path):
        try:
            with urllib.request.urlopen(f"https://{NODE}:{self.port}{path}", timeout=5, context=UNCHECKED) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics")[1], re.M)
        return float(found.group(1)) if found else None

    def ready(self):
        return self.get("/readyz")[0] == 200

    def leads(self):
        return self.metric("leader_election_master_status") == 1


class Watch(threading.Thread):
    """Every state that the workspaces of a namespace are seen in, by a watch that is begun again when it ends."""

    def __init__(self, api, ns):
        super().__init__(daemon=True)
        self.api, self.ns, self.over, self.seen = api, ns, False, []
        self.start()

    def run(self):
        while not self.over:
            try:
                for line in self.api.stream(f"/apis/molecule.ai/v1alpha1/namespaces/{self.ns}/workspaces?watch=1"):
                    if self.over:
                        return
                    self.note(json.loads(line))
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.2)

    def note(self, event):
        status = event.get("object", {}).get("status", {})
        if event["type"] not in ("ADDED", "MODIFIED") or not status or event["object"]["metadata"].get("deletionTimestamp"):
            return
        box = next((c for c in status.get("conditions", []) if c["type"] == "BoxRunning"), {})
        self.seen.append((time.monotonic(), event["object"]["metadata"]["name"], status.get("state"), box.get("status"), box.get("reason"),
                          frozenset(p["name"] for p in status.get("plugins", []))))

    def since(self, moment, name):
        return [one for one in self.seen if one[0] >= moment and one[1] == name]


class ReplicatedWorld(World):
    """Pods report to the Service, the replicas sign in as the account of manifests/ and may do what it may."""

    def __init__(self, program, name, settings, proxied=False):
        self.proxy = ApiProxy(DIR, 443) if proxied else None  # Between the replicas and the API server; Pods and kubelet go straight.
        settings.setdefault("boxes", {}).update({"agentImage": "localhost/operator:1", "agentURL": f"https://{ADDRESS}:8443"})
        super().__init__(program, name, settings)
        self.api_client = Api(DIR / "kubeconfig")
        self.replicas = [Replica(self, "a", PORT), Replica(self, "b", PORT + 1)]
        self.closing, self.ends, self.lock = False, [], threading.Lock()
        self.watch = Watch(self.api_client, self.ns)
        try:
            self.install()
            self.up()
            self.prepare()
        except BaseException:
            print(self.tails(60), flush=True)
            self.close()
            raise

    def prepare(self):
        """What a suite needs in its world before it begins."""

    def install(self):
        self.k("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests/install.yaml"), ns=False)
        self.k("-n", "workspace-operator", "scale", "deployment", "workspace-operator", "--replicas=0", ns=False)
        self.k("wait", "--for=condition=Established", "--timeout=60s", "-f", str(ROOT / "crds"), ns=False)
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "operators", "namespace": "workspace-operator"},
                   "spec": {"clusterIP": ADDRESS, "ports": [{"name": "https", "port": 8443, "targetPort": PORT}]}}
        slices = [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                   "metadata": {"name": f"operators-{r.name}", "namespace": "workspace-operator", "labels": {"kubernetes.io/service-name": "operators"}},
                   "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}], "ports": [{"name": "https", "port": r.port}]}
                  for r in self.replicas]
        self.k("apply", "-f", "-", stdin="\n---\n".join(json.dumps(o) for o in [service, *slices]), ns=False)
        token = self.k("-n", "workspace-operator", "create", "token", "workspace-operator", "--duration", "6h", ns=False).stdout.strip()
        config = json.loads(self.k("config", "view", "--raw", "--minify", "--flatten", "-o", "json", ns=False).stdout)
        config["users"][0]["user"] = {"token": token}
        if self.proxy:
            config["clusters"][0]["cluster"]["server"] = self.proxy.url
        (self.folder / "operator.kubeconfig").write_text(json.dumps(config))

    def up(self, failpoints=""):
        for replica in self.replicas:
            replica.start(failpoints)
        until(60, "both replicas are ready", lambda: all(r.ready() for r in self.replicas))
        until(30, "one leads", self.leader)
        threading.Thread(target=self.keep, daemon=True).start()
        return self

    def keep(self):
        while not self.closing:
            with self.lock:
                for replica in self.replicas:
                    code = replica.process.poll()
                    if code is not None and not self.closing:
                        self.ends.append((time.monotonic(), replica.name, code))
                        replica.start()
            time.sleep(0.1)

    def ended_since(self, moment):
        return [end for end in self.ends if end[0] >= moment]

    def leader(self):
        return next((r for r in self.replicas if r.leads()), None)

    def arm(self, failpoint):
        """The leader from now on ends at the failpoint; the other stands by."""
        until(60, "one leads", self.leader)
        armed = next(r for r in self.replicas if not r.leads())
        with self.lock:
            armed.process.kill()
            armed.process.wait()
            armed.start(failpoint)
        until(60, "the armed replica is ready", armed.ready)
        asked = []

        def leads():
            if armed.leads() or armed.process.poll() is not None:
                return True
            leader = self.leader()
            if leader and leader is not armed and leader.process not in asked:  # Started again, it may lead once more.
                asked.append(leader.process)
                leader.process.terminate()
            return False
        until(90, "the armed replica leads", leads)
        until(60, "the other stands by", lambda: all(r.ready() for r in self.replicas))
        return armed, armed.process

    def part(self, verb, name):
        done = subprocess.run([ROOT / "test/cluster/part", verb, name, "--dir", DIR], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        if done.returncode != 0:
            raise Failed(f"part {verb} {name}: {done.stdout}")

    def get(self, kind, name):
        code, found = self.api_client.call("GET", f"/apis/molecule.ai/v1alpha1/namespaces/{self.ns}/{kind}/{name}")
        if code != 200:
            raise OSError(f"{kind} {name}: {code}")
        return found

    def pod(self, name):
        code, found = self.api_client.call("GET", f"/api/v1/namespaces/{self.ns}/pods/{name}")
        if code != 200:
            raise OSError(f"pod {name}: {code}")
        return found

    def volume(self, pod):
        """The folder of a Pod's /configs, as the kubelet has it: read even while the kubelet is away."""
        uid = self.pod(pod)["metadata"]["uid"]
        return pathlib.Path(DIR / f"kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/molecule-configs")

    def tails(self, lines=25):
        return "\n".join(f"---- operator {r.name}\n{self.tail(r.log.name, lines)}" for r in self.replicas)

    def close(self):
        self.closing = self.watch.over = True
        self.k("delete", "namespace", self.ns, "--wait=false", ns=False, check=False)
        self.k("delete", "workspaces.molecule.ai", "--all", "--timeout=60s", check=False)
        with self.lock:
            for replica in self.replicas:
                if replica.process and replica.process.poll() is None:
                    replica.process.kill()
                    replica.process.wait()
        if self.proxy:
            self.proxy.close()
        super().close()
