#!/usr/bin/env bash
# A real Argo Workflows for the tests, from its Go module: controller and executor, built once into the cache.
#   argo.sh build [VERSION]   build; print the folder of the image (image.tar) and the CRDs
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=${2:-${TEST_ARGO_VERSION:-4.0.5}}
HOME_DIR=${TEST_KUBE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-kubernetes}
OUT=$HOME_DIR/argo-$VERSION
MODULE=github.com/argoproj/argo-workflows/v${VERSION%%.*}

build() {
  [ -f "$OUT/image.tar" ] && return
  . "$HERE/../../scripts/go.sh" "$HOME_DIR/go"
  local source tree=$HOME_DIR/src/argo-$VERSION
  source=$(go mod download -json "$MODULE@v$VERSION" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
  rm -rf "$tree" && cp -r "$source" "$tree" && chmod -R u+w "$tree"
  [ -f "$tree/workflow/executor/osspecific/signal_linux.go" ] || [ ! -d "$tree/workflow/executor/osspecific" ] ||
    sed "s#MODULE#$MODULE#" "$HERE/argo/signal_linux.go" > "$tree/workflow/executor/osspecific/signal_linux.go"
  mkdir -p "$OUT/image/bin" "$OUT/image/tmp" "$OUT/crds" && chmod 1777 "$OUT/image/tmp"
  (cd "$tree" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $MODULE.version=v$VERSION" -o "$OUT/image/bin/" ./cmd/workflow-controller ./cmd/argoexec)
  cp "$tree"/manifests/base/crds/full/argoproj.io_*.yaml "$OUT/crds/"
  python3 "$HERE/image.py" --name "local/argo:$VERSION" --root "$OUT/image" --entrypoint /bin/argoexec --output "$OUT/image.tar.part"
  rm -rf "$tree" "$OUT/image"
  mv "$OUT/image.tar.part" "$OUT/image.tar"
}

case ${1:-} in
  build) build >&2; echo "$OUT" ;;
  *) sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
