"""What the suites on a real node share: images, the world of one suite, objects. They run inside of a node variant's network namespace
(test/cluster/exec), whose folder is the one that KUBECONFIG lies in.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/scenario"))
import world as base  # noqa: E402  pylint: disable=wrong-import-position
from world import Failed, condition, until  # noqa: E402  pylint: disable=wrong-import-position

NODE = os.environ.get("WO_NODE_ADDRESS", "10.99.0.1")
PORT = 18443
DIR = pathlib.Path(os.environ["KUBECONFIG"]).resolve().parent
CLUSTER = ROOT / "test/cluster"
RUNTIME = ["/bin/sh", "/usr/bin/sample-runtime", "/configs/runtime-starts"]  # Of localhost/sample:1.
os.environ.pop("WO_API", None)  # The API is the node variant's, not one of a World's own.


def run(*arguments, stdin=None):
    return subprocess.run([str(a) for a in arguments], input=stdin, check=True, capture_output=True, text=True, timeout=300).stdout


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: wanted {wanted!r}, observed {got!r}")


def part(verb, name):
    """Acts on one process of this cluster: kill, pause, resume ..."""
    run(CLUSTER / "part", verb, name, "--dir", DIR)


def shown(w, name, state, box, *texts):
    """Waits until a Workspace has this state and BoxRunning (status, reason), and a person finds both in `kubectl describe`, the texts too, and the
    state in `kubectl get`."""
    last = []

    def holds():
        described = " ".join(w.k("describe", "workspaces.molecule.ai", name).stdout.split())
        listed = w.k("get", "workspaces.molecule.ai", name, "--no-headers").stdout.split()
        wanted = [f"State: {state}", f"Reason: {box[1]} Status: {box[0]} Type: BoxRunning", *texts]
        last[:] = [text for text in wanted if text not in described] + ([] if state in listed else [f"{state} in {listed}"])
        return not last
    try:
        until(120, name, holds)
    except Failed as failure:
        conditions = [(c["type"], c["status"], c["reason"], c.get("message")) for c in w.workspace(name)["status"]["conditions"]]
        raise Failed(f"{name}: not shown: {last}; observed {conditions}") from failure


def overfill(pod, volume, size):
    """Puts more into an emptyDir of a Pod than its sizeLimit allows (bytes): the kubelet will evict the Pod. False where the kubelet cannot (node_setup)."""
    if "localStorageCapacityIsolation: true" not in (DIR / "conf/kubelet.yaml").read_text():
        return False
    with open(DIR / f"kubelet/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~empty-dir/{volume}/too-much", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return True


def copy_with_libraries(program, root):
    """The program at /usr/bin and what ldd names, at the paths where its loader looks."""
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    run("strip", "-o", root / "usr/bin/workspace-operator", program)
    for path in re.findall(r"(/\S+) \(0x", run("ldd", program)):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def shell(root):
    """busybox with all its names: the shell and tar of a box."""
    (root / "bin").mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "configs", "etc"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    busybox = shutil.which("busybox")
    shutil.copy(busybox, root / "bin/busybox")
    for name in run(busybox, "--list").split():
        link = root / "bin" / name
        if not link.exists():
            link.symlink_to("busybox")


def load_images(program):
    """localhost/operator:1 (only this program), localhost/sample:1 (a shell and the sample's runtime), localhost/withagent:1 (both)."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wo-images-"))
    try:
        for name, parts in (("operator", "p"), ("sample", "s"), ("withagent", "ps")):
            root = folder / name
            root.mkdir()
            if "p" in parts:
                copy_with_libraries(program, root)
            if "s" in parts:
                shell(root)
                (root / "usr/bin").mkdir(parents=True, exist_ok=True)
                shutil.copy(base.RUNTIME, root / "usr/bin/sample-runtime")
                shutil.copy(CLUSTER / "noting_runtime", root / "usr/bin/noting-runtime")
            run(CLUSTER / "make_image", "--name", f"localhost/{name}:1", "--root", root, "--out", folder / f"{name}.tar")
            run(CLUSTER / "load-image", "--dir", DIR, folder / f"{name}.tar")
    finally:
        shutil.rmtree(folder)


class World(base.World):
    """The operator outside of the cluster, in the node's network namespace; boxes are Pods."""

    def __init__(self, program, name, settings=None, port=PORT):
        self.ns, self.port = name, port
        self.election = ["--no-leader-election"]
        super().__init__(program, settings or {
            "runtimes": {"sample": {"command": RUNTIME}},
            "boxes": {"agentImage": "localhost/operator:1", "agentURL": f"http://{NODE}:{port}"}})
        self.environment = {**os.environ, "KUBECACHEDIR": str(self.folder / "kubecache")}
        self.k("create", "namespace", self.ns, ns=False)
        self.k("label", "namespace", self.ns, "pod-security.kubernetes.io/enforce=restricted", ns=False)

    def k(self, *arguments, stdin=None, check=True, ns=True):
        result = subprocess.run(["kubectl", *(["-n", self.ns] if ns else []), *arguments], input=stdin, capture_output=True, text=True,
                                env=self.environment, timeout=120)
        if check and result.returncode != 0:
            raise subprocess.CalledProcessError(result.returncode, result.args, result.stdout, result.stderr)
        return result

    def kubectl(self, *arguments, stdin=None, check=True):
        return self.k(*arguments, stdin=stdin, check=check)

    def start_operator(self, failpoints=""):
        log = open(self.folder / "operator.log", "ab")
        self.operator = subprocess.Popen(
            [self.program, "run", "--kubeconfig", os.environ["KUBECONFIG"], "--namespace", self.ns, "--data-dir", self.folder / "data",
             "--settings", self.folder / "settings.yaml", "--http-address", NODE, "--http-port", str(self.port), *self.election],
            stdout=log, stderr=log, env={**os.environ, "WORKSPACE_OPERATOR_FAILPOINTS": failpoints})
        log.close()
        self.url = f"http://{NODE}:{self.port}"

    def wait_operator(self):
        def ready():
            if self.operator.poll() is not None:
                raise Failed(f"the operator ended with {self.operator.returncode}: {self.tail('operator.log')}")
            return self.http("GET", "/readyz")[0] == 200
        until(30, "operator ready", ready)
        return self

    def pod(self, name):
        return json.loads(self.k("get", "pod", name, "-o", "json").stdout)

    def in_pod(self, name, *command, container="agent"):
        return self.k("exec", name, "-c", container, "--", *command).stdout

    def boots(self, name, container="agent"):
        """How often the runtime was started in this Pod's volume."""
        return len(self.in_pod(name, "cat", "/configs/runtime-starts", container=container).splitlines())

    def volume_for(self, claim):
        """There is no provisioner here: makes the one volume that this claim may have, and returns its folder."""
        folder = self.folder / "pv"
        folder.mkdir()
        folder.chmod(0o777)
        self.folder.chmod(0o711)
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{self.ns}-{claim}"},
                  "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(folder)},
                           "claimRef": {"namespace": self.ns, "name": claim}, "persistentVolumeReclaimPolicy": "Retain"}}
        self.k("apply", "-f", "-", stdin=json.dumps(volume), ns=False)
        return folder

    def close(self):
        self.k("delete", "namespace", self.ns, "--wait=false", ns=False, check=False)
        self.k("delete", "workspaces.molecule.ai", "--all", "--timeout=30s", check=False)
        super().close()

    def objects(self, *objects):
        for o in objects:
            o["metadata"]["namespace"] = self.ns
        self.apply(*objects)


def workspace(name, plugins=(), pod=None, **spec):
    spec = {"restart": {"policy": "Immediate"}, **spec}
    out = base.workspace(name, "/none", plugins, **spec)
    out["spec"]["box"] = {"type": "Pod", "pod": pod or {"image": "localhost/sample:1"}}
    return out


def a_box(name, image="localhost/box:1", command=("/bin/sh", "-c", "while :; do sleep 1; done"), volume=True, of="a"):
    """A Pod that somebody else makes for the Workspace `of`."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"molecule.ai/workspace": of}},
            "spec": {"terminationGracePeriodSeconds": 1,
                     "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
                     "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "command": list(command),
                                     "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                                     **({"volumeMounts": [{"name": "c", "mountPath": "/configs"}]} if volume else {})}],
                     **({"volumes": [{"name": "c", "emptyDir": {}}]} if volume else {})}}


def pod_template(name, spec=None, **container):
    """For managed Pods; `container` changes its one container, `spec` the rest."""
    main = {"name": "main", "image": "localhost/sample:1", "command": RUNTIME, **container}
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": {"spec": {"containers": [main], **(spec or {})}}}


def owned(name, box):
    """The StatefulSet that makes this Pod, as NAME-0, and again whenever it is gone."""
    labels = {"app": name, **box["metadata"]["labels"]}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
            "spec": {"replicas": 1, "serviceName": name, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": labels}, "spec": box["spec"]}}}


def agent_command(w, name, *flags):
    """What runs in the Pod of somebody else who has our agent in it."""
    return ("/usr/bin/workspace-operator", "agent", "--root", "/", "--operator-url", w.url, "--workspace", f"{w.ns}.{name}", "--runtime", "sample", *flags,
            "--", *RUNTIME)
