#!/usr/bin/env bash
# The tests look at the web interface with Debian's Chromium; bring it if it is missing.
set -euo pipefail
[ -x /usr/bin/chromium ] && exit 0
echo "Chromium is missing; installing it." >&2
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq chromium >/dev/null
