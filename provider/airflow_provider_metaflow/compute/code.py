"""Code packages on a worker: unpacked once per content, shared by all tasks that use them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.exceptions import StepNotRunnableError
from airflow_provider_metaflow.flow.manifest import CodePackage

PACKAGED_METAFLOW = ".mf_code"
"""Folder of a package that holds Metaflow and its extensions (``metaflow.packaging_sys``, content version 1)."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file among all processes of the machine.

    :param path: the lock file; made if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unpacked(
    package: CodePackage, cache: Path, datastore_root: str, environment: Mapping[str, str] | None = None
) -> Path:
    """Return the folder with the package's content, unpacking it when this worker has not yet.

    :param package: the code package.
    :param cache: folder for all packages of this worker.
    :param datastore_root: root of the flow's datastore.
    :param environment: variables of the process that fetches the package; default: those of this process.
    :raises StepNotRunnableError: if the package cannot be fetched or unpacked.
    """
    key = hashlib.sha256(f"{package.sha}\0{package.flow_dir}\0{datastore_root}".encode()).hexdigest()[:32]
    target = cache / "code" / key
    if not (target / ".complete").exists():
        with locked(cache / "code" / f"{key}.lock"):
            if not (target / ".complete").exists():
                _unpack(package, target, datastore_root, environment)
    return target


def _unpack(package: CodePackage, target: Path, datastore_root: str, environment: Mapping[str, str] | None) -> None:
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        archive = staging.with_suffix(".tgz")
        _fetch(package, archive, datastore_root, environment)
        with tarfile.open(archive) as content:
            # Debian 12's Python 3.11.2 has no filters yet; the package is one that we made.
            options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            content.extractall(staging, **options)  # noqa: S202
        archive.unlink()
        _link_siblings(Path(package.flow_dir), staging)
        if package.datastore == "local":
            # Metaflow writes cards to the `.metaflow` that it finds from the working directory on upwards, yet
            # its client looks for them in the datastore of the run.
            (staging / ".metaflow").symlink_to(datastore_root)
        (staging / ".complete").touch()
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    except (OSError, tarfile.TarError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise StepNotRunnableError(
            f"code package {package.url} cannot be unpacked into {target} ({error}).",
            hint="Check that the datastore can be read from this worker and that the disk is not full.",
        ) from error


def _fetch(package: CodePackage, archive: Path, root: str, environment: Mapping[str, str] | None) -> None:
    if package.datastore == "local":
        shutil.copyfile(package.url, archive)
        return
    path = package.url.removeprefix(root).lstrip("/")
    # Metaflow knows how to reach every datastore; its client lives in the worker's environment.
    script = (
        "import shutil, sys\n"
        "from metaflow.plugins import DATASTORES\n"
        "kind, root, path, target = sys.argv[1:]\n"
        "store = next(d for d in DATASTORES if d.TYPE == kind)\n"
        "with store(root).load_bytes([path]) as loaded:\n"
        "    for _, path, _ in loaded:\n"
        "        shutil.copyfile(path, target)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, package.datastore, root, path, str(archive)],
        capture_output=True,
        text=True,
        check=False,
        env=None if environment is None else dict(environment),
    )
    if result.returncode != 0 or not archive.exists():
        raise OSError(f"fetching it failed: {result.stderr.strip()[-500:]}")


def _link_siblings(source: Path, target: Path) -> None:
    """Link what lies beside the flow and is no code, so that steps find it by relative name as in a local run."""
    if not source.is_dir():
        return
    for entry in sorted(source.iterdir()):
        twin = target / entry.name
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if not twin.exists():
            twin.symlink_to(entry.resolve())
        elif entry.is_dir() and twin.is_dir() and not twin.is_symlink():
            _link_siblings(entry, twin)
