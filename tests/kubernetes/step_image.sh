#!/usr/bin/env bash
# The image that steps run in on the test cluster: Debian's Python with what Metaflow needs of each object store, made
# without a container engine. Metaflow itself comes with the code package. Prints the path of the image's tar.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${TEST_KUBE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/test-kubernetes}/images
NAME=local/step:1
PACKAGES=(boto3 requests azure-identity azure-storage-blob azure-keyvault-secrets google-cloud-storage google-auth google-cloud-secret-manager packaging pip uv)
TAR=$CACHE/step-$(sha256sum "${BASH_SOURCE[0]}" "$HERE/image.py" | sha256sum | cut -c1-16).tar
if [ ! -f "$TAR" ]; then
  command -v debootstrap >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap >/dev/null
  }
  mkdir -p "$CACHE"
  ROOT=$(mktemp -d "$CACHE/rootfs.XXXXXX")
  trap 'rm -rf "$ROOT"' EXIT
  debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$ROOT" >&2
  ln -sf python3 "$ROOT/usr/bin/python"
  # With the host's pip, which knows the machine's package index and certificates.
  "${PYTHON:-python3}" -m pip install --quiet --target "$ROOT/usr/local/lib/python3.11/dist-packages" \
    --implementation cp --python-version 3.11 --platform manylinux2014_x86_64 --only-binary=:all: "${PACKAGES[@]}" >&2
  ln -s ../lib/python3.11/dist-packages/bin/uv "$ROOT/usr/local/bin/uv"
  rm -f "$ROOT/usr/lib/python3.11/EXTERNALLY-MANAGED" # which images of a registry do not have either
  # As any image of a registry, with compiled bytecode; image.py changes the times of the files, so Python must not compare them.
  chroot "$ROOT" python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.11 /usr/local/lib/python3.11 >&2 || true
  rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/lib/apt/lists/* "$ROOT"/root/.cache
  python3 "$HERE/image.py" --name "$NAME" --root "$ROOT" --output "$TAR.part"
  mv "$TAR.part" "$TAR"
fi
echo "$TAR"
