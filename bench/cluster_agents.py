"""Parts of bench/cluster that need agents: heartbeats over TLS, and the adoption of what boxes bring along."""
import json
import os
import re
import shutil
import socket
import subprocess
import time

from cluster_fleet import ROOT, TEAM, Failed, Fleet, Replica, condition, free_port, process_cpu, uid, until

AGENTS = int(os.environ.get("WO_BENCH_AGENTS", "10000"))
BEATS = int(os.environ.get("WO_BENCH_BEATS", "200000"))


class Agents:
    """bench/agents, which plays many of them."""
    program = None

    def __init__(self, *arguments):
        if Agents.program is None:
            Agents.program = subprocess.run([ROOT / "bench/agents/build"], check=True, capture_output=True, text=True).stdout.strip()
        self.process = subprocess.Popen([Agents.program, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self):
        if self.process.stdout.readline().strip() != "ready":
            raise Failed(f"the agents ended with {self.process.wait()}")
        return self

    def end(self):
        """What they sent, and how it was answered."""
        self.process.stdin.close()
        answer = self.process.stdout.readline()
        self.process.wait(60)
        return json.loads(answer)


def made(number, box, seconds, team=TEAM):
    """A Workspace as kubectl would have made it: its key and bytes in etcd, and what its token's Secret is made from."""
    name, ns = f"ws-{number:05}", f"team-{number // team}"
    spec = {"kind": "Agent", "runtime": "sample", "box": box, "suspend": False, "heartbeat": {"periodSeconds": seconds, "timeoutSeconds": 6 * seconds},
            "provisioning": {"deadlineSeconds": 900}, "restart": {"policy": "Immediate", "deadlineSeconds": 3600, "recreate": "Never"}}
    workspace = {"apiVersion": "molecule.ai/v1alpha1", "kind": "Workspace", "spec": spec,
                 "metadata": {"name": name, "namespace": ns, "uid": uid(f"w{number}"), "generation": 1, "creationTimestamp": "2026-11-01T00:00:00Z"}}
    return f"/registry/molecule.ai/workspaces/{ns}/{name}", json.dumps(workspace), {"NS": ns, "WS": name, "WUID": uid(f"w{number}")}


def heartbeats(program, figure, say):
    """An operator with its endpoint under TLS, External boxes, and their agents."""
    seconds = 30
    fleet = Fleet(program)
    try:
        for n in range((AGENTS + TEAM - 1) // TEAM):
            fleet.admin.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"team-{n}"}})
        fleet.api.part("kill", "apiserver")

        def pairs():
            for n in range(AGENTS):
                key, text, values = made(n, {"type": "External"}, seconds)
                yield key, text
                yield fleet.secret(values)
        fleet.write(pairs())
        fleet.start_api()
        fleet.use()
        tls = ["--tls", "--tls-name", "localhost", "--http-connections", 3 * AGENTS]
        leader = Replica(fleet, "leader", *tls).warm()
        until(60, "it leads", lambda: leader.metrics()["leader_election_master_status"] == 1)
        until(600, "its first passes", lambda: leader.knows(AGENTS))
        common = ["-ca", fleet.folder / "data-leader/ca.crt", "-agents", AGENTS]
        say("every agent reports once")
        say(f"{Agents('-urls', leader.url, *common, '-connections', 64, '-beats', AGENTS // 64 * 64).end()}")
        until(1200, "all are Online", lambda: online(leader) >= AGENTS // 64 * 64)
        until(120, "and nothing is written any more", lambda: quiet(leader))
        say("heartbeats on kept connections")
        cpu = leader.cpu()
        done = Agents("-urls", leader.url, *common, "-connections", 64, "-beats", BEATS).end()
        ours = (leader.cpu() - cpu) * 1e6 / max(1, done["accepted"])
        figure("one heartbeat over TLS on a kept connection, CPU", ours, "us", 13)
        say(f"{done}")
        if peer := peer_beat(fleet):
            figure("the same of a peer on axum and rustls, which keeps a report's time only", peer, "us")
            figure("one heartbeat over TLS, times that peer", ours / peer, "")
        else:
            say("no cargo here: no peer")
        say("idle connections")
        before = leader.memory()
        period = Agents("-urls", leader.url, *common, "-period", f"{seconds}s").ready()
        open_ = connections(leader)
        figure("connections that are kept at the same time", open_, "", AGENTS, "higher")
        figure("resident per idle TLS connection", (leader.memory() - before) * 1000 / max(1, open_), "kB", 30)
        period.end()
        take_over(fleet, leader, figure, say, [*common, "-period", f"{seconds}s"], tls)
    finally:
        fleet.close()


def peer_beat(fleet):
    """CPU of one heartbeat at bench/peer_heartbeat, in us: the same agents, right after ours. None without cargo."""
    if not shutil.which("cargo"):
        return None
    program = subprocess.run([ROOT / "bench/peer_heartbeat/build"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    port, pki = free_port(), fleet.cluster / "pki"
    peer = subprocess.Popen([program, str(port), pki / "apiserver.crt", pki / "apiserver.key", str(AGENTS)])
    try:
        until(10, "the peer listens", lambda: socket.create_connection(("127.0.0.1", port), 1).close() or True)
        common = ["-urls", f"https://localhost:{port}", "-ca", pki / "ca.crt", "-agents", AGENTS, "-connections", 64]
        Agents(*common, "-beats", AGENTS // 64 * 64).end()
        cpu = process_cpu(peer.pid)
        done = Agents(*common, "-beats", BEATS).end()
        return (process_cpu(peer.pid) - cpu) * 1e6 / max(1, done["accepted"])
    finally:
        peer.kill()
        peer.wait()


def online(replica):
    return sum(float(v) for v in re.findall(r'^workspace_operator_workspaces\{state="Online"[^}]*\} (\S+)$', replica.http("/metrics"), re.M))


def quiet(replica):
    before = replica.metrics().get("rest_client_requests_total", 0)
    time.sleep(5)
    return replica.metrics().get("rest_client_requests_total", 0) - before <= 4  # The Lease.


def connections(replica):
    """Sockets that the operator's endpoint has open."""
    port = replica.url.rsplit(":", 1)[1]
    return int(subprocess.run(f"ss -tnH state established 'sport = :{port}' | wc -l", shell=True, check=True, capture_output=True, text=True).stdout)


def take_over(fleet, leader, figure, say, arguments, tls):
    """The leader dies while all agents report: nobody may be called Offline."""
    say("take-over with all agents reporting")
    other = Replica(fleet, "standby", *tls).warm()
    agents = Agents("-urls", f"{leader.url},{other.url}", *arguments).ready()
    changed = {w["metadata"]["uid"]: condition(w, "Ready").get("lastTransitionTime") for w in listed(fleet)}
    begin = time.time()
    leader.end()
    until(60, "the other one leads", lambda: other.metrics()["leader_election_master_status"] == 1)
    until(600, "its first passes", lambda: other.knows(AGENTS))
    say(f"led and looked at everything after {time.time() - begin:.0f} s")
    time.sleep(max(0.0, begin + 240 - time.time()))  # Longer than the timeout of 180 s.
    after = listed(fleet)
    moved = [w for w in after if condition(w, "Ready").get("lastTransitionTime") != changed.get(w["metadata"]["uid"]) or w["status"]["state"] != "Online"]
    asked = fleet.audit(begin)
    figure(f"agents of {AGENTS:,} that a take-over called anything but Online", len(moved), "", 0)
    figure("API writes caused by that take-over", sum(verb not in ("get", "list", "watch") for _, verb, _, _ in asked), "")
    done = agents.end()
    figure("longest time that an agent was not heard during that take-over", done["longestSilence"], "s")
    say(f"{done}")


def listed(fleet):
    return fleet.admin.call("GET", "/apis/molecule.ai/v1alpha1/workspaces")[1]["items"]
