#!/usr/bin/env python3
"""Make a container image tar (docker-archive form) from folders, without a container engine.

    image.py --name local/step:1 --root rootfs [--root overlay …] [--entrypoint /bin/sh] [--env K=V …] --output step.tar

Each --root becomes one layer, in order. Load it with `cluster.sh load step.tar`; pods then use the pull policy Never.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pathlib
import tarfile


def layer(root: pathlib.Path) -> bytes:
    """One uncompressed layer; owners become root, times zero, so that equal content gives equal bytes."""

    def clean(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = 0
        return None if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE) else info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, arcname=path.name, filter=clean)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--root", required=True, action="append", type=pathlib.Path)
    parser.add_argument("--entrypoint", nargs="*", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--workdir", default="/")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    args = parser.parse_args()

    layers = [layer(root) for root in args.root]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *args.env],
                "Entrypoint": args.entrypoint or None,
                "WorkingDir": args.workdir,
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]},
        },
        sort_keys=True,
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    files = [(f"layer{i}.tar", data) for i, data in enumerate(layers)] + [(name, config)]
    manifest = json.dumps(
        [{"Config": name, "RepoTags": [args.name], "Layers": [f"layer{i}.tar" for i in range(len(layers))]}]
    ).encode()
    with tarfile.open(args.output, "w") as tar:
        for filename, data in [*files, ("manifest.json", manifest)]:
            info = tarfile.TarInfo(filename)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main()
