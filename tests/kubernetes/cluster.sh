#!/usr/bin/env bash
# A real single-node Kubernetes for the tests, on a bare Debian 12 machine, from registry packages only. Run as root.
#   cluster.sh build     install Debian's packages, build the binaries from Go modules into the cache (once)
#   cluster.sh up        start everything, wait until the node is Ready, print the path of a kubeconfig
#   cluster.sh down      stop everything; leave no process, mount, interface, rule or pod folder
#   cluster.sh load T    import image tars (made by image.py); pods use them with the pull policy Never or IfNotPresent
#   cluster.sh binaries  print the folder of kubectl and the others
#   cluster.sh status    what runs
# Everything lives under $TEST_KUBE_HOME. Nothing listens outside loopback and the bridge of the pods.
set -euo pipefail
VERSION=${TEST_KUBE_VERSION:-1.34.4}
COREDNS=${TEST_COREDNS_VERSION:-1.14.7} ETCD=${TEST_ETCD_VERSION:-3.6.16} # Debian's etcd 3.4 is too old: watches fall back to slow resyncs
HOME_DIR=${TEST_KUBE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-kubernetes}
BIN=$HOME_DIR/bin-$VERSION PKI=$HOME_DIR/pki RUN=$HOME_DIR/run DATA=$HOME_DIR/data
BRIDGE=tkube0 NODE_IP=10.244.0.1 POD_NET=10.244.0.0/24 SERVICE_NET=10.96.0.0/16 API_SERVICE=10.96.0.1 DNS_SERVICE=10.96.0.10
# Without an address of its own a bridge has the lowest one of its ports: it changes when pods come and go, and the other
# pods reach nothing for up to a minute, until they ask for it again.
BRIDGE_ADDRESS=02:00:0a:f4:00:01
NODE=test-node SOCKET=$RUN/containerd.sock KUBECONFIG_FILE=$HOME_DIR/kubeconfig
COMPONENTS="kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl"
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

build() {
  . "$HERE/../../scripts/go.sh" "$HOME_DIR/go"
  local need=""; for tool in containerd runc iptables conntrack openssl gcc; do command -v "$tool" >/dev/null || need=yes; done
  if [ -n "$need" ] || [ ! -d /usr/lib/cni ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      containerd runc containernetworking-plugins iptables conntrack openssl gcc libc6-dev >/dev/null
  fi
  mkdir -p "$BIN" "$HOME_DIR/src/kubernetes" "$HOME_DIR/src/coredns" "$HOME_DIR/src/etcd"
  local missing=""; for c in $COMPONENTS; do [ -x "$BIN/$c" ] || missing="$missing k8s.io/kubernetes/cmd/$c"; done
  if [ -n "$missing" ]; then (
    cd "$HOME_DIR/src/kubernetes"
    go_mod > go.mod.new && mv go.mod.new go.mod
    # shellcheck disable=SC2086
    CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$VERSION -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$VERSION")" -o "$BIN/" $missing
  ); fi
  [ -x "$BIN/coredns" ] || (cd "$HOME_DIR/src/coredns" && GOBIN=$BIN CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/coredns/coredns@v$COREDNS")
  [ -x "$BIN/etcd" ] || (
    cd "$HOME_DIR/src/etcd"
    printf 'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n' > main.go
    printf 'module test.local/etcd\n\ngo 1.25\n\nrequire go.etcd.io/etcd/server/v3 v%s\n' "$ETCD" > go.mod
    CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w" -o "$BIN/etcd" .
  )
  [ -f "$BIN/pause.tar" ] || {
    printf '#include <signal.h>\n#include <unistd.h>\nstatic void end(int s){_exit(0);}int main(){signal(SIGTERM,end);signal(SIGINT,end);for(;;)pause();}\n' > "$HOME_DIR/src/pause.c"
    mkdir -p "$HOME_DIR/src/pause" && gcc -static -O2 -o "$HOME_DIR/src/pause/pause" "$HOME_DIR/src/pause.c"
    python3 "$HERE/image.py" --name local/pause:1 --root "$HOME_DIR/src/pause" --entrypoint /pause --output "$BIN/pause.tar"
  }
}

# k8s.io/kubernetes replaces its staging modules by folders of its own tree; as a module they are published as v0.<minor>.<patch>.
go_mod() {
  local mod; mod=$(go mod download -json "k8s.io/kubernetes@v$VERSION" | python3 -c 'import json,sys; print(json.load(sys.stdin)["GoMod"])')
  grep -m1 '^go ' "$mod" | sed '1i module test.local/kubernetes\n'
  grep -E '^godebug default' "$mod" || true
  echo "require k8s.io/kubernetes v$VERSION"
  sed -nE "s#^\s*(k8s\.io/\S+) => \./staging/src/.*#replace \1 => \1 v0.${VERSION#1.}#p" "$mod" | sort -u
}

pki() {
  [ -f "$PKI/done" ] && return
  mkdir -p "$PKI"; cd "$PKI"
  openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=test-ca -keyout ca.key -out ca.crt 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout api.key -out api.csr 2>/dev/null
  openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out api.crt \
    -extfile <(echo "subjectAltName=IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc") 2>/dev/null
  local token; token=$(openssl rand -hex 24); echo "$token,admin,admin,\"system:masters\"" > tokens.csv
  cat > "$KUBECONFIG_FILE" <<YAML
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: admin, namespace: default}}]
clusters: [{name: test, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: admin, user: {token: $token}}]
YAML
  chmod 600 "$KUBECONFIG_FILE" tokens.csv ./*.key; touch done
}

config() {
  mkdir -p "$RUN" "$DATA" "$HOME_DIR/cni"
  cat > "$HOME_DIR/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "test", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/ipam", "ranges": [[{"subnet": "$POD_NET", "rangeStart": "10.244.0.10", "gateway": "$NODE_IP"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  cat > "$HOME_DIR/containerd.toml" <<TOML
version = 2
root = "$DATA/containerd"
state = "$RUN/containerd"
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$HOME_DIR/cni"
TOML
  cat > "$HOME_DIR/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
healthzBindAddress: 127.0.0.1
containerRuntimeEndpoint: unix://$SOCKET
cgroupDriver: cgroupfs
failSwapOn: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [$DNS_SERVICE]
clusterDomain: cluster.local
resolvConf: ""
maxPods: 200
registryPullQPS: 0
serializeImagePulls: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
enforceNodeAllocatable: []
# Never: on a disk that is 85% full the kubelet would delete the images, which no registry gives back, and no pod would start again.
imageGCHighThresholdPercent: 100
podLogsDir: $DATA/pod-logs
YAML
  cat > "$HOME_DIR/Corefile" <<CORE
cluster.local:53 {
  bind $NODE_IP
  kubernetes cluster.local {
    kubeconfig $KUBECONFIG_FILE test
  }
  errors
}
.:53 {
  bind $NODE_IP
  template ANY ANY {
    rcode NXDOMAIN
  }
}
CORE
}

# start NAME COMMAND...: a process group of its own, log and pid under $RUN
start() {
  local name=$1; shift
  alive "$name" && return
  setsid "$@" > "$RUN/$name.log" 2>&1 < /dev/null &
  echo $! > "$RUN/$name.pid"
}
alive() { [ -f "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }
stop() {
  alive "$1" || { rm -f "$RUN/$1.pid"; return 0; }
  local pid; pid=$(cat "$RUN/$1.pid"); kill "$pid" 2>/dev/null || true
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true; rm -f "$RUN/$1.pid"
}
wait_for() { local what=$1; shift; for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; echo "$what did not come up; see $RUN/*.log" >&2; return 1; }
k() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }
ctr_() { ctr --address "$SOCKET" -n k8s.io "$@"; }

up() {
  build; pki; config
  ip link show "$BRIDGE" >/dev/null 2>&1 || { ip link add "$BRIDGE" address "$BRIDGE_ADDRESS" type bridge; ip addr add "$NODE_IP/24" dev "$BRIDGE"; ip link set "$BRIDGE" up; }
  [ -f "$RUN/ip_forward" ] || cat /proc/sys/net/ipv4/ip_forward > "$RUN/ip_forward"
  echo 1 > /proc/sys/net/ipv4/ip_forward
  start etcd "$BIN/etcd" --data-dir "$DATA/etcd" --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
    --listen-peer-urls http://127.0.0.1:23800 --initial-advertise-peer-urls http://127.0.0.1:23800 --initial-cluster default=http://127.0.0.1:23800 --unsafe-no-fsync
  start containerd containerd --config "$HOME_DIR/containerd.toml"
  start kube-apiserver "$BIN/kube-apiserver" --etcd-servers http://127.0.0.1:23790 --bind-address "$NODE_IP" --advertise-address "$NODE_IP" --secure-port 6443 \
    --tls-cert-file "$PKI/api.crt" --tls-private-key-file "$PKI/api.key" --client-ca-file "$PKI/ca.crt" --token-auth-file "$PKI/tokens.csv" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$PKI/sa.pub" --service-account-signing-key-file "$PKI/sa.key" \
    --authorization-mode RBAC --service-cluster-ip-range "$SERVICE_NET" --kubelet-preferred-address-types InternalIP --allow-privileged=true --v=1
  wait_for kube-apiserver k get --raw /readyz
  start kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig "$KUBECONFIG_FILE" --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
    --use-service-account-credentials=false --leader-elect=false --bind-address 127.0.0.1 --v=1
  start kube-scheduler "$BIN/kube-scheduler" --kubeconfig "$KUBECONFIG_FILE" --leader-elect=false --bind-address 127.0.0.1 --v=1
  wait_for containerd ctr_ version
  ctr_ images ls -q | grep -q local/pause:1 || load "$BIN/pause.tar"
  start kubelet "$BIN/kubelet" --config "$HOME_DIR/kubelet.yaml" --kubeconfig "$KUBECONFIG_FILE" --hostname-override "$NODE" --node-ip "$NODE_IP" --root-dir "$DATA/kubelet" --cert-dir "$PKI/kubelet" --v=1
  start kube-proxy "$BIN/kube-proxy" --kubeconfig "$KUBECONFIG_FILE" --hostname-override "$NODE" --cluster-cidr "$POD_NET" --proxy-mode iptables --conntrack-max-per-core 0 --bind-address "$NODE_IP" --healthz-bind-address 127.0.0.1:10256 --metrics-bind-address 127.0.0.1:10249
  wait_for "the node" sh -c "'$BIN/kubectl' --kubeconfig '$KUBECONFIG_FILE' wait --for=condition=Ready node/$NODE --timeout=1s"
  wait_for "the default service account" k get serviceaccount default
  dns
  echo "$KUBECONFIG_FILE"
}

# Cluster DNS on the node itself; the service's endpoint is the bridge address.
dns() {
  start coredns "$BIN/coredns" -conf "$HOME_DIR/Corefile"
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: $DNS_SERVICE, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-node, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [$NODE_IP], conditions: {ready: true}}]
YAML
}

load() { for tar in "$@"; do ctr_ images import --no-unpack=false "$tar" >/dev/null 2>&1 || ctr_ images import "$tar" >/dev/null; done; }

down() {
  set +e +o pipefail # go on to the end whatever is already gone
  for c in kube-controller-manager kube-scheduler kube-apiserver; do alive "$c" && kill -9 "$(cat "$RUN/$c.pid")"; done
  stop kubelet; stop kube-proxy; stop coredns; stop kube-scheduler; stop kube-controller-manager
  if alive containerd; then
    for task in $(ctr_ tasks ls -q 2>/dev/null); do ctr_ tasks kill -s SIGKILL "$task" 2>/dev/null || true; done
    sleep 0.5
    for task in $(ctr_ tasks ls -q 2>/dev/null); do ctr_ tasks rm -f "$task" >/dev/null 2>&1 || true; done
    for container in $(ctr_ containers ls -q 2>/dev/null); do ctr_ containers rm "$container" >/dev/null 2>&1 || true; done
  fi
  stop kube-apiserver; stop etcd; stop containerd
  # shims and network namespaces that containerd made for pods of this cluster only
  for pid in $(grep -ls "$SOCKET" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do [ "$pid" = $$ ] || kill -9 "$pid" 2>/dev/null || true; done
  grep -E " ($RUN|$DATA)/" /proc/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null || true; done
  for ns in $(ip netns list 2>/dev/null | grep -o '^cni-[0-9a-f-]*'); do ip netns del "$ns" 2>/dev/null || true; done
  [ -x "$BIN/kube-proxy" ] && "$BIN/kube-proxy" --cleanup >/dev/null 2>&1 || true
  for table in nat filter mangle; do iptables -t "$table" -S 2>/dev/null | grep -oE '^-N (KUBE|CNI)-\S+' | cut -d' ' -f2 | while read -r chain; do
    iptables -t "$table" -S | grep -E -- "-j $chain( |$)" | sed 's/^-A/-D/' | while read -r rule; do eval "iptables -t $table $rule" 2>/dev/null || true; done
    iptables -t "$table" -F "$chain" 2>/dev/null || true; done
    iptables -t "$table" -S 2>/dev/null | grep -oE '^-N (KUBE|CNI)-\S+' | cut -d' ' -f2 | while read -r chain; do iptables -t "$table" -X "$chain" 2>/dev/null || true; done; done
  ip link del "$BRIDGE" 2>/dev/null || true
  [ -f "$RUN/ip_forward" ] && cat "$RUN/ip_forward" > /proc/sys/net/ipv4/ip_forward || true
  rm -rf "$RUN" "$DATA/kubelet" "$DATA/etcd" "$DATA/pod-logs"
}

status() { for c in etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns; do alive "$c" && echo "$c running ($(cat "$RUN/$c.pid"))" || echo "$c stopped"; done; }

case "${1:-}" in
  build|up|down|status) "$1" ;;
  binaries) echo "$BIN" ;;
  load) shift; load "$@" ;;
  *) sed -n '2,10p' "$0" >&2; exit 2 ;;
esac
