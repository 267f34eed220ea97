# Sourced by up, down, part, exec and load-image: what lies where in a cluster's folder, and how each of its parts is started and ended.
# A cluster is one folder: cluster.env (its variant, ports, name), pki/, conf/, log/, run/ (pid files), etcd/, kubeconfig.
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
default_dir=$(cd "$here/../.." && pwd)/.data/cluster

node_address=10.99.0.1         # of the node variant, in its own network namespace
service_range=10.96.0.0/16
kubernetes_service=10.96.0.1   # the first of service_range
dns_service=10.96.0.10

say() { echo "cluster: $*"; }
die() { echo "cluster: $*" >&2; exit 1; }
pause_briefly() { read -rt 0.05 <> <(:) || true; }

cluster_open() { # folder
  dir=$(realpath -m "$1")
  [ -f "$dir/cluster.env" ] || die "$dir holds no cluster; start one with: test/cluster/up --dir $dir"
  # shellcheck source=/dev/null
  . "$dir/cluster.env"
}

# What runs a command where the cluster's addresses are: nothing for api, the network namespace for node.
# Not `ip netns exec`: that mounts another /sys, in which kubelet finds no cgroups.
inside() {
  if [ "$variant" = node ]; then nsenter --net="/var/run/netns/$netns" "$@"; else "$@"; fi
}

parts_in_order() { # the order of starting; the order of ending is the reverse
  local all="etcd apiserver"
  [ "$variant" = node ] && all="$all containerd controller-manager scheduler kubelet proxy dns forward"
  [ "$variant" = api ] && all="$all ${with//,/ }"
  echo "$all"
}

part_command() { # name: sets the array `command`
  case "$1" in
    etcd) command=("$programs/etcd" --name=cluster "--data-dir=$dir/etcd" "--listen-client-urls=http://127.0.0.1:$etcd_port"
      "--advertise-client-urls=http://127.0.0.1:$etcd_port" "--listen-peer-urls=http://127.0.0.1:$peer_port"
      "--initial-advertise-peer-urls=http://127.0.0.1:$peer_port" "--initial-cluster=cluster=http://127.0.0.1:$peer_port"
      --log-level=warn --unsafe-no-fsync);;
    apiserver) apiserver_command;;
    controller-manager) command=("$programs/kube-controller-manager" "--kubeconfig=$dir/conf/controller-manager.kubeconfig"
      "--service-account-private-key-file=$dir/pki/sa.key" "--root-ca-file=$dir/pki/ca.crt" --use-service-account-credentials
      "--cluster-signing-cert-file=$dir/pki/ca.crt" "--cluster-signing-key-file=$dir/pki/ca.key"
      --leader-elect=false --bind-address=127.0.0.1 "--secure-port=$manager_port" "--cert-dir=$dir/conf/controller-manager"
      --node-monitor-period=1s --node-monitor-grace-period=8s --allocate-node-cidrs=false);;
    scheduler) command=("$programs/kube-scheduler" "--kubeconfig=$dir/conf/scheduler.kubeconfig" --leader-elect=false
      --bind-address=127.0.0.1 "--secure-port=$scheduler_port" "--cert-dir=$dir/conf/scheduler");;
    containerd) command=(containerd --config "$dir/conf/containerd.toml");;
    kubelet) command=("$programs/kubelet" "--config=$dir/conf/kubelet.yaml" "--kubeconfig=$dir/conf/kubelet.kubeconfig"
      "--root-dir=$dir/kubelet" "--cert-dir=$dir/conf/kubelet" "--hostname-override=$node_name" "--node-ip=$node_address" --v=2);;
    proxy) command=("$programs/kube-proxy" "--kubeconfig=$dir/conf/proxy.kubeconfig" "--hostname-override=$node_name" --proxy-mode=iptables
      --masquerade-all  # Pods share one bridge: without it an answer would go past the translation of its address.
      --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
      --iptables-min-sync-period=100ms --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249);;
    dns) command=(python3 "$here/dns" --listen "$dns_service" --kubeconfig "$dir/kubeconfig");;
    forward) command=(python3 "$here/forward" --listen "127.0.0.1:$outside_port" --inside "/var/run/netns/$netns"
      --to "$node_address:$api_port" --for "$dir");;
    *) die "no part is called '$1'; the parts are: $(parts_in_order)";;
  esac
}

apiserver_command() {
  command=("$programs/kube-apiserver" "--etcd-servers=http://127.0.0.1:$etcd_port" "--secure-port=$api_port"
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged
    --service-account-issuer=https://kubernetes.default.svc.cluster.local "--service-account-key-file=$dir/pki/sa.pub"
    "--service-account-signing-key-file=$dir/pki/sa.key" "--service-cluster-ip-range=$service_range"
    "--client-ca-file=$dir/pki/ca.crt" "--tls-cert-file=$dir/pki/apiserver.crt" "--tls-private-key-file=$dir/pki/apiserver.key")
  if [ "$variant" = node ]; then
    command+=(--bind-address=0.0.0.0 "--advertise-address=$node_address" --kubelet-preferred-address-types=InternalIP
      "--kubelet-certificate-authority=$dir/pki/ca.crt" "--kubelet-client-certificate=$dir/pki/apiserver-kubelet.crt"
      "--kubelet-client-key=$dir/pki/apiserver-kubelet.key")
  else
    command+=(--bind-address=127.0.0.1 --advertise-address=127.0.0.1 --endpoint-reconciler-type=none)
  fi
  if [ "$audit" = yes ]; then
    command+=("--audit-policy-file=$dir/conf/audit-policy.yaml" "--audit-log-path=$dir/audit.log")
  fi
  # shellcheck disable=SC2206  # Words on purpose: they come from `up -- FLAGS`.
  command+=($apiserver_flags)
}

part_pid() { # name: the pid, if that process lives and is the part (pids are reused)
  local pid state words
  pid=$(cat "$dir/run/$1.pid" 2> /dev/null) || return 1
  state=$(sed -nE 's/^State:\t(.).*/\1/p' "/proc/$pid/status" 2> /dev/null) || return 1
  words=$(tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline") || return 1
  case "$state" in '' | Z | X) return 1;; esac
  case "$words" in '' | *"$dir"*) echo "$pid";; *) return 1;; esac  # Empty for a moment while a program is being started.
}

part_start() { # name
  if part_pid "$1" > /dev/null; then return 0; fi
  local command
  part_command "$1"
  # The part outlives this script, in a session of its own; forward starts outside, it enters the namespace itself.
  if [ "$1" = forward ]; then
    setsid "${command[@]}" >> "$dir/log/$1.log" 2>&1 < /dev/null &
  elif [ "$variant" = node ]; then
    setsid nsenter --net="/var/run/netns/$netns" "${command[@]}" >> "$dir/log/$1.log" 2>&1 < /dev/null &
  else
    setsid "${command[@]}" >> "$dir/log/$1.log" 2>&1 < /dev/null &
  fi
  echo $! > "$dir/run/$1.pid"
  disown
}

part_signal() { # name, signal
  local pid
  pid=$(part_pid "$1") || { [ "$2" = KILL ] || die "$1 is not running"; return 0; }
  kill "-$2" "$pid"
}

part_end() { # name, signal: ends it and waits until it is gone and its port is free
  local pid
  pid=$(part_pid "$1") || return 0
  kill -CONT "$pid" 2> /dev/null || true
  kill "-$2" "$pid" 2> /dev/null || true
  for n in $(seq 400); do
    part_pid "$1" > /dev/null || break
    [ "$n" != 200 ] || kill -KILL "$pid" 2> /dev/null || true
    pause_briefly
  done
  rm -f "$dir/run/$1.pid"
  case "$1" in etcd) wait_port_free "$etcd_port";; apiserver) wait_port_free "$api_port";; esac
}

wait_port_free() { # port
  for _ in $(seq 200); do
    [ -n "$(inside ss -ltnH "sport = :$1" 2> /dev/null)" ] || return 0
    pause_briefly
  done
  die "port $1 is still taken"
}

api() { # path, curl's arguments: a request as the cluster's admin
  local path=$1
  shift
  inside curl -sS --max-time 10 --cacert "$dir/pki/ca.crt" --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" "$@" \
    "https://$([ "$variant" = node ] && echo "$node_address" || echo 127.0.0.1):$api_port$path"
}

part_ready() { # name
  case "$1" in
    etcd) inside curl -sf --max-time 2 "http://127.0.0.1:$etcd_port/readyz" > /dev/null;;
    apiserver) [ "$(api /readyz 2> /dev/null)" = ok ];;
    controller-manager) [ "$(inside curl -sk --max-time 2 "https://127.0.0.1:$manager_port/healthz")" = ok ];;
    scheduler) [ "$(inside curl -sk --max-time 2 "https://127.0.0.1:$scheduler_port/healthz")" = ok ];;
    containerd) ctr --address "$dir/run/containerd.sock" version > /dev/null 2>&1;;
    kubelet) inside curl -sf --max-time 2 http://127.0.0.1:10248/healthz > /dev/null && api "/api/v1/nodes/$node_name" 2> /dev/null | jq -e '.status.conditions[] | select(.type == "Ready").status == "True"' > /dev/null;;
    proxy) inside curl -sf --max-time 2 http://127.0.0.1:10249/healthz > /dev/null;;
    dns) inside ss -lunH "src $dns_service" | grep -q .;;
    forward) ss -ltnH "sport = :$outside_port" | grep -q .;;
  esac
}

part_wait() { # name, seconds
  local end=$((SECONDS + $2))
  until part_ready "$1"; do
    part_pid "$1" > /dev/null || { tail -n 20 "$dir/log/$1.log" >&2; die "$1 ended by itself; its log: $dir/log/$1.log"; }
    [ "$SECONDS" -lt "$end" ] || { tail -n 20 "$dir/log/$1.log" >&2; die "$1 is not ready after $2 s; its log: $dir/log/$1.log"; }
    pause_briefly
  done
}
