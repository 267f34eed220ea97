#!/usr/bin/env bash
# What people do with kubectl, against an embedded API server that serves the Widget CRD of widgets.hpp. Exits non-zero at the first
# unexpected result. Usage: KUBECONFIG=... [KUBECTL=...] kubectl_check.sh
#                       or: kubectl_check.sh <test_apiserver_rest>   (starts it on a temporary data directory, ends it afterwards)
set -euo pipefail
KUBECTL=${KUBECTL:-kubectl}
work=$(mktemp -d)
server=
finish() {
  local code=$?
  if [ -n "$server" ]; then exec 9>&-; wait "$server" 2>/dev/null || true; fi
  [ "$code" = 0 ] || { echo "FAILED at: $step" >&2; cat "$work/out" "$work"/wait* "$work"/watch* >&2 2>/dev/null || true; tail -5 "$work/log" >&2 2>/dev/null; }
  rm -rf "$work"
  exit "$code"
}
step=start
trap finish EXIT
if [ $# -gt 0 ]; then
  mkfifo "$work/stdin"
  APISERVER_SERVE="$work/data" "$1" -tc='serves until*' <"$work/stdin" >"$work/log" 2>&1 &
  server=$!
  exec 9>"$work/stdin"
  for _ in $(seq 300); do [ -s "$work/data/kubeconfig" ] && grep -q ^serving "$work/log" && break; sleep 0.1; done
  grep -q ^serving "$work/log" || { cat "$work/log" >&2; exit 1; }
  export KUBECONFIG="$work/data/kubeconfig"
fi
export HOME="$work"  # kubectl's discovery cache must not be an earlier server's.
k() { timeout 60 "$KUBECTL" "$@"; }
# ok WHAT COMMAND...: must succeed. says TEXT: the last output holds it. no WHAT COMMAND...: must fail.
ok() { step="$1"; shift; "$@" >"$work/out" 2>&1 9>&- || { echo "exit $?: $*" >>"$work/out"; return 1; }; }
no() { step="$1"; shift; if "$@" >"$work/out" 2>&1 9>&-; then echo "succeeded: $*" >>"$work/out"; return 1; fi; }
says() { grep -qF -- "$1" "$work/out" || { echo "should say: $1" >>"$work/out"; return 1; }; }
silent() { ! grep -qF -- "$1" "$work/out" || { echo "should not say: $1" >>"$work/out"; return 1; }; }

widget() {  # name color size
  printf 'apiVersion: test.example/v1\nkind: Widget\nmetadata: {name: %s, labels: {made-by: check}}\nspec: {color: %s, size: %s, parts: [{name: a, count: 1}, {name: b}]}\n' "$1" "$2" "$3"
}
widget one red 2 >"$work/one.yaml"
widget one blue 3 >"$work/one-blue.yaml"
widget two green 4 >"$work/two.yaml"

ok version k version; says 'Server Version'
ok raw-healthz k get --raw /readyz; says ok
ok api-resources k api-resources; says widgets; says secrets; says selfsubjectaccessreviews; says customresourcedefinitions
ok api-versions k api-versions; says test.example/v1; says coordination.k8s.io/v1
ok can-i k auth can-i create widgets.test.example; says yes
ok can-i-list k auth can-i --list; says '*.*'
ok whoami k auth whoami; says admin

ok namespace k create namespace team
ok get-namespaces k get ns; says team; says Active; says default
no namespace-again k create namespace team; says 'already exists'

# apply, client side
ok apply-new k apply -f "$work/one.yaml"; says created
ok apply-same k apply -f "$work/one.yaml"; says unchanged
no diff-change k diff -f "$work/one-blue.yaml"; says '+  color: blue'
ok apply-change k apply -f "$work/one-blue.yaml"; says configured
ok diff-none k diff -f "$work/one-blue.yaml"
ok dry-run-server k apply --dry-run=server -f "$work/one.yaml"; says 'server dry run'
ok dry-run-wrote-nothing k get widget one -o 'jsonpath={.spec.color}'; says blue
# apply, server side
ok ssa-new k apply --server-side -f "$work/two.yaml"; says serverside-applied
ok ssa-again k apply --server-side -f "$work/two.yaml"; says serverside-applied
ok ssa-migrate k apply --server-side -f "$work/one-blue.yaml"; says serverside-applied
sed 's/green/red/' "$work/two.yaml" >"$work/two-red.yaml"
no ssa-conflict k apply --server-side --field-manager=other -f "$work/two-red.yaml"; says conflict; says '.spec.color'
ok ssa-force k apply --server-side --field-manager=other --force-conflicts -f "$work/two-red.yaml"
ok ssa-diff k diff --server-side --field-manager=other -f "$work/two-red.yaml"
# reading
ok get-table k get widgets; says COLOR; says READY; says blue; silent SIZE
ok get-wide k get wd -o wide; says SIZE
ok get-category k get tests -A; says NAMESPACE; says one
ok get-yaml k get widget one -o yaml; says 'color: blue'; says 'generation: 2'
ok get-labels k get widgets --show-labels; says made-by=check
ok get-selector k get widgets -l made-by=check,other!=x -o name; says widget.test.example/two
ok get-field-selector k get widgets --field-selector spec.color=blue -o name; says one; silent two
no get-bad-field k get widgets --field-selector spec.size=1; says 'field label not supported'
ok get-sorted k get widgets --sort-by=.spec.size; says two
ok get-chunks k get widgets --chunk-size=1 -o name; says one; says two
ok managed-fields k get widget two --show-managed-fields -o yaml; says 'manager: other'; says 'operation: Apply'
no get-missing k get widget missing; says 'Error from server (NotFound): widgets.test.example "missing" not found'
ok describe k describe widget one; says 'Color:'; says 'Events:'
ok explain k explain widgets.spec; says 'spec is what is wanted'; says color
ok explain-recursive k explain widgets --recursive; says parts
ok crds k get crd; says widgets.test.example
ok crd-established k wait --for=condition=Established crd/widgets.test.example --timeout=20s
# bad input
sed 's/color: red/color: red, colour: x/' "$work/one.yaml" >"$work/typo.yaml"
no strict k apply -f "$work/typo.yaml"; says 'unknown field "spec.colour"'
ok warn k apply --validate=warn -f "$work/typo.yaml"; says 'unknown field "spec.colour"'
ok back k apply -f "$work/one-blue.yaml"
sed 's/color: red/color: pink/' "$work/one.yaml" >"$work/pink.yaml"
no enum k apply -f "$work/pink.yaml"; says 'spec.color'; says 'Unsupported value: "pink"'
sed 's/size: 2/size: 11/' "$work/one.yaml" >"$work/big.yaml"
no cel k apply -f "$work/big.yaml"; says '`size` must be at most 10'
# changes
ok annotate k annotate widget one note=x; ok annotated k get widget one -o 'jsonpath={.metadata.annotations.note}'; says x
ok unannotate k annotate widget one note-
ok label k label widget one tier=front; ok label-list k get widgets -l tier=front -o name; says one
ok patch-merge k patch widget one --type=merge -p '{"spec":{"size":5}}'; says patched
ok patch-none k patch widget one --type=merge -p '{"spec":{"size":5}}'; says 'no change'
ok patch-json k patch widget one --type=json -p '[{"op":"replace","path":"/spec/size","value":6}]'
no patch-json-test k patch widget one --type=json -p '[{"op":"test","path":"/spec/size","value":7}]'
no patch-strategic k patch widget one -p '{"spec":{"size":7}}'
ok patch-status k patch widget one --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Ready","status":"False","reason":"New"}]},"spec":{"size":9}}'
ok status-kept-spec k get widget one -o 'jsonpath={.spec.size} {.status.conditions[0].status}'; says '6 False'
ok generation k get widget one -o 'jsonpath={.metadata.generation}'; before=$(cat "$work/out")
ok status-again k patch widget one --subresource=status --type=merge -p '{"status":{"observedGeneration":99}}'
ok generation-same k get widget one -o 'jsonpath={.metadata.generation}'; says "$before"
printf '#!/bin/sh\nsed -i "s/size: 6/size: 7/" "$1"\n' >"$work/editor"; chmod +x "$work/editor"
ok edit env KUBE_EDITOR="$work/editor" timeout 60 "$KUBECTL" edit widget one; says edited
ok edited k get widget one -o 'jsonpath={.spec.size}'; says 7
ok replace bash -c "$KUBECTL get widget one -o json | sed 's/\"size\": 7/\"size\": 8/' | $KUBECTL replace -f -"; says replaced
no replace-stale bash -c "$KUBECTL get widget one -o json | sed 's/\"resourceVersion\": \"[0-9]*\"/\"resourceVersion\": \"1\"/' | $KUBECTL replace -f -"; says 'object has been modified'
# watch and wait
step=wait-condition
k wait --for=condition=Ready widget/one --timeout=40s >"$work/wait" 2>&1 9>&- & waiter=$!
k get widgets -w -o name >"$work/watch" 2>&1 9>&- & watcher=$!
k get widget one -w >"$work/watch-one" 2>&1 9>&- & watcher_one=$!
k wait --for='jsonpath={.spec.size}=9' widget/one --timeout=40s >"$work/wait-path" 2>&1 9>&- & waiter_path=$!
for _ in $(seq 100); do [ -s "$work/watch" ] && [ -s "$work/watch-one" ] && break; sleep 0.1; done
ok make-ready k patch widget one --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Done"}]}}'
ok make-size k patch widget one --type=merge -p '{"spec":{"size":9}}'
wait "$waiter"; wait "$waiter_path"
ok wait-said cat "$work/wait"; says 'condition met'
for _ in $(seq 100); do grep -q True "$work/watch-one" && break; sleep 0.1; done
kill "$watcher" "$watcher_one" 2>/dev/null || true; wait "$watcher" "$watcher_one" 2>/dev/null || true
ok watch-one-rows cat "$work/watch-one"; says True; says COLOR
ok watch-names cat "$work/watch"; says widget.test.example/one
ok wait-list-client env KUBE_FEATURE_WatchListClient=true timeout 60 "$KUBECTL" wait --for=condition=Ready widget/one --timeout=10s; says 'condition met'
no wait-timeout k wait --for=condition=Other widget/one --timeout=1s; says 'timed out'
# core kinds
ok secret k create secret generic s --from-literal=password=geheim -n team
ok secret-data k get secret s -n team -o 'jsonpath={.data.password}'; says Z2VoZWlt
ok secret-patch k patch secret s -n team -p '{"stringData":{"more":"x"}}'; ok secret-more k get secret s -n team -o 'jsonpath={.data}'; says more; says password
ok configmap k create configmap c --from-literal=a=b -n team
ok configmap-table k get cm -n team; says DATA
printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: t}\nstringData: {a: b}\n' >"$work/secret.yaml"
ok secret-apply k apply -n team -f "$work/secret.yaml"; ok secret-apply-again k apply -n team -f "$work/secret.yaml"
uid=$(k get widget one -o 'jsonpath={.metadata.uid}')
printf 'apiVersion: v1\nkind: Event\nmetadata: {name: e, namespace: default}\ninvolvedObject: {kind: Widget, apiVersion: test.example/v1, name: one, namespace: default, uid: %s}\nreason: Tested\nmessage: it was tested\ntype: Normal\ncount: 1\nfirstTimestamp: "2026-01-01T00:00:00Z"\nlastTimestamp: "2026-01-01T00:00:00Z"\nsource: {component: check}\n' "$uid" >"$work/event.yaml"
ok event k create -f "$work/event.yaml"
ok events k events --for widget/one; says Tested
ok events-get k get events; says 'it was tested'
ok events-new-group k get events.events.k8s.io -o yaml; says 'note: it was tested'
ok describe-events k describe widget one; says Tested
printf 'apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: {holderIdentity: me, leaseDurationSeconds: 15}\n' >"$work/lease.yaml"
ok lease k apply -f "$work/lease.yaml"; ok leases k get leases; says me
# deletion
ok owner k get widget two -o 'jsonpath={.metadata.uid}'; owner=$(cat "$work/out")
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned, ownerReferences: [{apiVersion: test.example/v1, kind: Widget, name: two, uid: %s}]}\n' "$owner" >"$work/owned.yaml"
ok owned k apply -f "$work/owned.yaml"
ok delete k delete widget two; says deleted
ok dependents-go k wait --for=delete cm/owned --timeout=20s
no deleted k get widget two
ok finalizer k patch widget one --type=merge -p '{"metadata":{"finalizers":["test.example/hold"]}}'
ok delete-held k delete widget one --wait=false
ok held k get widget one -o 'jsonpath={.metadata.deletionTimestamp}'; says T
no no-new-finalizer k patch widget one --type=merge -p '{"metadata":{"finalizers":["test.example/hold","test.example/more"]}}'
step=wait-delete
k wait --for=delete widget/one --timeout=40s >"$work/wait" 2>&1 9>&- & waiter=$!
ok let-go k patch widget one --type=merge -p '{"metadata":{"finalizers":null}}'
wait "$waiter"
ok foreground-make k apply -f "$work/two.yaml"
ok delete-foreground k delete widget two --cascade=foreground
ok make-many bash -c "for n in x y z; do sed s/two/\$n/ '$work/two.yaml' | $KUBECTL apply -f -; done"
ok delete-all k delete widgets --all
ok none-left k get widgets; says 'No resources found'
ok delete-namespace k delete namespace team --timeout=40s; says deleted
no namespace-gone k get ns team
no default-stays k delete ns default
no missing-namespace k create configmap c -n nowhere; says 'not found'
step=done
echo "kubectl check: all as expected ($("$KUBECTL" version --client -o json 2>/dev/null | tr -d ' \n' | grep -o '"gitVersion":"[^"]*"' | head -1))"
