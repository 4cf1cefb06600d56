#!/usr/bin/env bash
# Azurite, Microsoft's own emulator of Azure's blob storage, from npm; once, into a cache.
set -euo pipefail
CACHE=${TEST_AZURITE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-azurite}
[ -x "$CACHE/node_modules/.bin/azurite-blob" ] && exit 0
if ! command -v npm >/dev/null; then
  echo "npm is missing; installing it." >&2
  if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq npm >/dev/null
fi
mkdir -p "$CACHE"
npm install --silent --no-fund --no-audit --prefix "$CACHE" azurite@3 >&2
