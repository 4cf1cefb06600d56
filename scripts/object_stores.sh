#!/usr/bin/env bash
# Emulators of Azure's and Google's object stores, once, into a cache: Azurite from npm, fake-gcs-server from the Go proxy.
set -euo pipefail
CACHE=${TEST_OBJECT_STORES_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-object-stores}
FAKE_GCS=1.54.0
mkdir -p "$CACHE"
if [ ! -x "$CACHE/node_modules/.bin/azurite-blob" ]; then
  if ! command -v npm >/dev/null; then
    echo "npm is missing; installing it." >&2
    if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq npm >/dev/null
  fi
  npm install --silent --no-fund --no-audit --prefix "$CACHE" azurite@3 >&2
fi
if [ ! -x "$CACHE/fake-gcs-server" ]; then
  . "$(dirname "${BASH_SOURCE[0]}")/go.sh" "$CACHE/go"
  GOBIN=$CACHE CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/fsouza/fake-gcs-server@v$FAKE_GCS" 2>"$CACHE/go.log" || {
    tail -n 20 "$CACHE/go.log" >&2
    exit 1
  }
fi
