#!/usr/bin/env bash
# The cluster of the tests: binaries, the image of steps, and Argo with what it works with, built once into a cache (about 15 minutes on two cores).
# Says nothing unless something fails.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/kubernetes" && pwd)
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
for step in "cluster.sh build" step_image.sh "controllers.sh build argo-workflows" "controllers.sh build argo-events" "controllers.sh build jobset"; do
  # shellcheck disable=SC2086
  "$HERE"/$step >"$LOG" 2>&1 || {
    tail -n 40 "$LOG" >&2
    echo "$step failed: the tests need a Kubernetes (or PYTEST_ARGS=--without-kubernetes, which skips those tests)." >&2
    exit 1
  }
done
