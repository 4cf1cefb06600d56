#!/usr/bin/env bash
# install.sh VENV ARGUMENTS…: what `pip install ARGUMENTS…` installs, by uv in a tenth of its time. uv does not read pip's
# configuration: where that names another index, and where uv fails, it is pip.
set -euo pipefail
venv=$1; shift
python=$venv/bin/python
if [ -z "${PIP_INDEX_URL:-}" ] && ! "$python" -m pip config get global.index-url >/dev/null 2>&1; then
    [ -x "$venv/bin/uv" ] || "$python" -m pip install --quiet "$(grep '^uv==' constraints/constraints.txt)"
    "$venv/bin/uv" pip install --quiet --python "$python" "$@" && exit 0
    echo "uv could not install it; pip tries." >&2
fi
PYTHONWARNINGS=ignore exec "$python" -m pip install --quiet "$@"
