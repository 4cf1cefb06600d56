#!/usr/bin/env python3
"""Make the image of Airflow's worker pods: the image of steps, and over it Airflow, its providers and this package.

    airflow_image.py --base step.tar --home images    # prints the path of the image's tar

What is installed for the tests is left out, by the dependencies that the installed packages name. This package is a
layer of its own; that of the others is kept beside the image, so that a change of this package takes seconds.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from py_compile import PycInvalidationMode

from image import layer
from packaging.requirements import Requirement

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
OURS = "airflow-provider-metaflow"
SOURCES = ("provider", "adapters", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
NAME = "local/airflow:1"
SITE = Path("opt/airflow/site-packages")
OWN = Path("opt/airflow/provider")
BYTECODE = Path("var/cache/python")
"""As in `step_image.sh`."""

ROOTS = (
    "apache-airflow", "apache-airflow-providers-cncf-kubernetes", "apache-airflow-providers-amazon", "boto3",
    "metaflow", OURS,
)  # fmt: skip
"""The packages of the image, with all that they need."""


def closure() -> dict[str, Distribution]:
    """Return the distributions of the image by name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in ROOTS]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            assert wanted.extras or name not in ROOTS, f"{name} is not installed"
            continue
        waiting += needs(found[name])
    return found


def needs(one: Distribution) -> Iterator[Requirement]:
    for text in one.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def copy_packages(found: dict[str, Distribution], site: Path) -> None:
    """Copy the files of distributions, without their tests and what is outside of the packages' folder."""
    for name, one in found.items():
        for file in one.files or () if name != OURS else ():
            if (
                ".." in file.parts
                or {"tests", "__pycache__", "node_modules"} & set(file.parts)
                or file.suffix == ".map"
            ):
                continue
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)


def install_provider(target: Path) -> None:
    """Install this package as its users do; from a copy, since a build leaves files beside its sources."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "source")
        copy.mkdir()
        for name in SOURCES:
            source = PROJECT / name
            skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=skipped)
            else:
                shutil.copyfile(source, copy / name)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        subprocess.run([*pip, "--target", str(target), str(copy)], check=True, stdout=sys.stderr)


def compile_modules(root: Path) -> None:
    """Compile the modules of a layer for where the image has them, and put the result where its Python looks for it.

    `image.py` changes the times of files, so none are compared.
    """
    with tempfile.TemporaryDirectory() as cache:
        sys.pycache_prefix = cache
        compileall.compile_dir(
            root, quiet=2, stripdir=root, prependdir="/", invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
        sys.pycache_prefix = None
        shutil.copytree(f"{cache}{root}", root / BYTECODE)


def digest_of_packages(found: dict[str, Distribution]) -> str:
    """Return a text that differs when the layer of packages does."""
    parts = hashlib.sha256()
    for script in ("airflow_image.py", "image.py"):
        parts.update((HERE / script).read_bytes())
    for name, one in sorted(found.items()):
        parts.update(f"{name}=={one.version}\n".encode())
    return parts.hexdigest()[:16]


def digest_of_provider() -> str:
    """Return a text that differs when the layer of this package does."""
    parts = hashlib.sha256()
    for name in SOURCES:
        for path in sorted([PROJECT / name, *(PROJECT / name).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path):
                parts.update(str(path.relative_to(PROJECT)).encode() + path.read_bytes())
    return parts.hexdigest()[:16]


def layer_of(home: Path, fill: Callable[[Path], None], inside: Path) -> bytes:
    """Return a layer with a folder of modules."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        root = Path(folder).resolve()
        (root / inside).mkdir(parents=True)
        fill(root / inside)
        compile_modules(root)
        return layer(root)


def packages_layer(found: dict[str, Distribution], home: Path) -> bytes:
    """Return the layer of all packages but this one, which is made when one of them has another version."""
    kept = home / f"airflow-{digest_of_packages(found)}.layer"
    if not kept.exists():
        remove(home, "airflow-*.layer")
        part = Path(f"{kept}.part")
        part.write_bytes(layer_of(home, lambda target: copy_packages(found, target), SITE))
        part.rename(kept)
    return kept.read_bytes()


def remove(home: Path, pattern: str) -> None:
    """Remove what was made of earlier versions, since nobody would use it again."""
    for old in home.glob(pattern):
        old.unlink()


def extend(base: Path, layers: list[bytes], environment: list[str], output: Path) -> None:
    """Write an image that has the layers of another one and more."""
    with tarfile.open(base) as old, tarfile.open(output, "w") as new:
        (manifest,) = json.load(old.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(old.extractfile(manifest["Config"]))  # type: ignore[arg-type]

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))

        for name in manifest["Layers"]:
            new.addfile(old.getmember(name), old.extractfile(name))
        for data in layers:
            manifest["Layers"].append(f"layer{len(manifest['Layers'])}.tar")
            add(manifest["Layers"][-1], data)
            config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(data).hexdigest())
        config["config"]["Env"] += environment
        described = json.dumps(config, sort_keys=True).encode()
        manifest.update(Config=hashlib.sha256(described).hexdigest() + ".json", RepoTags=[NAME])
        add(manifest["Config"], described)
        add("manifest.json", json.dumps([manifest]).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path)
    parser.add_argument("--home", required=True, type=Path)
    given = parser.parse_args()
    found = closure()
    output = given.home / f"airflow-{given.base.stem}-{digest_of_packages(found)}-{digest_of_provider()}.tar"
    if not output.exists():
        remove(given.home, "airflow-*.tar")
        part = Path(f"{output}.part")
        layers = [packages_layer(found, given.home), layer_of(given.home, install_provider, OWN)]
        extend(given.base, layers, [f"PYTHONPATH=/{OWN}:/{SITE}"], part)
        part.rename(output)
    print(output)


if __name__ == "__main__":
    main()
