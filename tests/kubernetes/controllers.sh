#!/usr/bin/env bash
# The controllers that the tests run flows with, from their Go modules, built once into the cache.
#   controllers.sh build NAME [VERSION]     build; print the folder of its image (image.tar) and its objects (objects.yaml)
#   controllers.sh server argo-workflows    build Argo's server, `argo`; print its folder
#   controllers.sh objects NAME [VERSION]   print its objects, for a cluster that pulls the image of its maintainers
#   controllers.sh version NAME             print the version that the tests take
# NAME is argo-workflows, argo-events (with a NATS server) or jobset; the image is local/NAME:VERSION.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HOME_DIR=${TEST_KUBE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-kubernetes}
NATS=2.11.9
declare -A VERSIONS=([argo-workflows]=4.0.5 [argo-events]=1.9.7 [jobset]=0.10.1)
declare -A PACKAGES=([argo-workflows]="./cmd/workflow-controller ./cmd/argoexec" [argo-events]=./cmd [jobset]=.)
# Where its own image has them, and what that starts.
declare -A BINARIES=([argo-workflows]=bin/ [argo-events]=bin/argo-events [jobset]=manager)
declare -A ENTRYPOINTS=([argo-workflows]=/bin/argoexec [argo-events]=/bin/argo-events [jobset]=/manager)

module() {
  case $1 in
    argo-workflows) echo "github.com/argoproj/argo-workflows/v${2%%.*}" ;;
    argo-events) echo github.com/argoproj/argo-events ;;
    jobset) echo sigs.k8s.io/jobset ;;
  esac
}

# Print what its maintainers say that a cluster needs of it.
objects() {
  local kind
  case $1 in
    argo-workflows)
      # Kubernetes refuses the full schemas of 3.6, whose installation takes the others.
      case $VERSION in 3.6.*) kind=minimal ;; *) kind=full ;; esac
      for file in "$2/manifests/base/crds/$kind"/argoproj.io_*.yaml; do echo "---" && cat "$file"; done ;;
    argo-events) cat "$2/manifests/install.yaml" ;;
    jobset) "$("$HERE/cluster.sh" binaries)/kubectl" kustomize "$2/config/default" ;;
  esac
}

# Add the one file that Argo's module on the Go proxy lacks.
complete() {
  local folder package
  folder=$(dirname "$1"/workflow/executor/os*specific/signal_darwin.go)
  package=$(sed -n 's/^package //p' "$folder/signal_darwin.go")
  [ -f "$folder/signal_linux.go" ] ||
    sed "s#MODULE#$2#; s#^package osspecific#package $package#" "$HERE/argo/signal_linux.go" > "$folder/signal_linux.go"
}

# Copy the module's source to a folder, complete.
tree() {
  . "$HERE/../../scripts/go.sh" "$HOME_DIR/go"
  local module source
  module=$(module "$NAME" "$VERSION")
  source=$(go mod download -json "$module@v$VERSION" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
  rm -rf "$1" && mkdir -p "$(dirname "$1")" && cp -r "$source" "$1" && chmod -R u+w "$1"
  [ "$NAME" != argo-workflows ] || complete "$1" "$module"
}

# Argo's server runs on the machine; the web interface that it would carry is not in the module.
server() {
  [ -x "$OUT/argo" ] && return
  local tree=$HOME_DIR/src/$NAME-server-$VERSION
  tree "$tree"
  mkdir -p "$OUT" "$tree/ui/dist/app" && touch "$tree/ui/dist/app/index.html"
  (cd "$tree" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$OUT/argo" ./cmd/argo)
  rm -rf "$tree"
}

# Print what a cluster needs of it; nothing is built.
print_objects() {
  local tree=$HOME_DIR/src/$NAME-objects-$VERSION
  tree "$tree" >&2
  objects "$NAME" "$tree"
  rm -rf "$tree"
}

build() {
  [ -f "$OUT/image.tar" ] && return
  local module tree=$HOME_DIR/src/$NAME-$VERSION
  module=$(module "$NAME" "$VERSION")
  tree "$tree"
  mkdir -p "$OUT/image/bin" "$OUT/image/tmp" && chmod 1777 "$OUT/image/tmp"
  # shellcheck disable=SC2086
  (cd "$tree" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $module.version=v$VERSION" -o "$OUT/image/${BINARIES[$NAME]}" ${PACKAGES[$NAME]})
  [ "$NAME" != argo-events ] ||
    GOBIN=$OUT/image/bin CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/nats-io/nats-server/v2@v$NATS"
  objects "$NAME" "$tree" > "$OUT/objects.yaml"
  python3 "$HERE/image.py" --name "local/$NAME:$VERSION" --root "$OUT/image" --entrypoint "${ENTRYPOINTS[$NAME]}" --output "$OUT/image.tar.part"
  rm -rf "$tree" "$OUT/image"
  mv "$OUT/image.tar.part" "$OUT/image.tar"
}

NAME=${2:-} VERSION=${3:-}
[[ "${1:-}" =~ ^(build|server|objects|version)$ ]] && [ -n "${VERSIONS[$NAME]:-}" ] || { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
VERSION=${VERSION:-${VERSIONS[$NAME]}}
OUT=$HOME_DIR/$NAME-$VERSION
case $1 in
  build) build >&2 && echo "$OUT" ;;
  server) server >&2 && echo "$OUT" ;;
  objects) print_objects ;;
  version) echo "$VERSION" ;;
esac
