#!/usr/bin/env bash
# The tests of events run a Redis server of their own; bring it if it is missing.
set -euo pipefail
command -v redis-server >/dev/null && exit 0
echo "Redis is missing; installing it." >&2
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq redis-server >/dev/null
