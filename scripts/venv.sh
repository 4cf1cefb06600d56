#!/usr/bin/env bash
# Make a virtual environment, also where Debian has split `venv` from Python.
set -euo pipefail
python=$1 venv=$2
[ -x "$venv/bin/pip" ] && exit 0
"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"The pinned set-up needs Python 3.11 or newer, this is {sys.version.split()[0]}; set PYTHON=...")
PY
if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    rm -rf "$venv"
    echo "The venv module is missing; installing python3-venv." >&2
    if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
    $sudo apt-get update -qq && $sudo apt-get install -y -qq python3-venv >/dev/null
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --upgrade pip
