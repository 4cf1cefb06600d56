#!/usr/bin/env bash
# The image that steps run in on the test cluster: Debian's Python with what Metaflow needs of each object store, made
# without a container engine. Metaflow itself comes with the code package. Prints the path of the image's tar.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${TEST_KUBE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-kubernetes}/images
NAME=local/step:1
PACKAGES=(boto3 requests azure-identity azure-storage-blob azure-keyvault-secrets google-cloud-storage google-auth google-cloud-secret-manager packaging pip uv)
METAFLOW=$(grep '^metaflow==' "$HERE/../../constraints/constraints.txt")
# Of what is in them, not of where they are: each checkout would make an image of its own.
TAR=$CACHE/step-$(echo "$METAFLOW" | cat "$HERE/step_image.sh" "$HERE/image.py" - | sha256sum | cut -c1-16).tar
BYTECODE=/var/cache/python
if [ ! -f "$TAR" ]; then
  command -v debootstrap >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap >/dev/null
  }
  mkdir -p "$CACHE"
  ROOT=$(mktemp -d "$CACHE/rootfs.XXXXXX")
  # debootstrap mounts /proc in it, and leaves that mounted if it is killed.
  trap 'umount -l "$ROOT/proc" 2>/dev/null || true; rm -rf --one-file-system "$ROOT"' EXIT
  debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$ROOT" >&2
  ln -sf python3 "$ROOT/usr/bin/python"
  # With the host's pip, which knows the machine's package index and certificates.
  "${PYTHON:-python3}" -m pip install --quiet --target "$ROOT/usr/local/lib/python3.11/dist-packages" \
    --implementation cp --python-version 3.11 --platform manylinux2014_x86_64 --only-binary=:all: "${PACKAGES[@]}" >&2
  ln -s ../lib/python3.11/dist-packages/bin/uv "$ROOT/usr/local/bin/uv"
  rm -f "$ROOT/usr/lib/python3.11/EXTERNALLY-MANAGED" # which images of a registry do not have either
  # As any image of a registry, with compiled bytecode; image.py changes the times of the files, so Python must not compare them.
  compile() { chroot "$ROOT" env PYTHONPYCACHEPREFIX="$BYTECODE" python3 -m compileall -q "$@" >&2 || true; }
  compile -f --invalidation-mode unchecked-hash /usr/lib/python3.11 /usr/local/lib/python3.11
  # And with that of the Metaflow that each code package brings, at the path and with the time that it has there.
  "${PYTHON:-python3}" -m pip install --quiet --no-deps --target "$ROOT/metaflow/.mf_code" "$METAFLOW" >&2
  find "$ROOT/metaflow/.mf_code" -name '*.py' -exec touch -d @1575360000 {} +
  compile /metaflow/.mf_code/metaflow
  rm -rf "$ROOT/metaflow"
  rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/lib/apt/lists/* "$ROOT"/root/.cache
  python3 "$HERE/image.py" --name "$NAME" --root "$ROOT" --env "PYTHONPYCACHEPREFIX=$BYTECODE" --output "$TAR.part"
  mv "$TAR.part" "$TAR"
fi
echo "$TAR"
