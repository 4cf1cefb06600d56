#!/usr/bin/env bash
# The tests run a PostgreSQL server of their own; bring its binaries if they are missing.
set -euo pipefail
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null && exit 0
echo "PostgreSQL is missing; installing it." >&2
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq postgresql >/dev/null
