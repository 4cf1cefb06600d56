"""Code packages on a worker: unpacked once per content, shared by all tasks that use them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from metaflow_orchestration.cache import CODE, Cache, locked, note_size, remove, touch
from metaflow_orchestration.documents.manifest import CodePackage
from metaflow_orchestration.exceptions import StepNotRunnableError

from .bytecode import reuse_bytecode
from .surrounding_files import content_path, link_surroundings

PACKAGED_METAFLOW = ".mf_code"
"""Folder of a package that holds Metaflow and its extensions (``metaflow.packaging_sys``, content version 1)."""

_CONTENT = "content"
_COMPLETE = ".complete"


@contextmanager
def unpacked(
    package: CodePackage, cache: Cache | Path, datastore_root: str, environment: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Give the folder with the package's content, unpacking it when this worker has not yet.

    Within the ``with`` block, no process removes the folder to keep the cache small.

    :param package: the code package.
    :param cache: the cache of this worker, or its folder.
    :param datastore_root: root of the flow's datastore.
    :param environment: variables of the process that fetches the package; default: those of this process.
    :raises StepNotRunnableError: if the package cannot be fetched or unpacked, or is not the one that was deployed.
    :raises CacheFolderError: if the cache is not private to this user.
    """
    cache = Cache.at(cache)
    key = hashlib.sha256(f"{package.sha}\0{package.flow_dir}\0{datastore_root}".encode()).hexdigest()[:32]
    entry = cache.folder(CODE) / key
    content = entry / _CONTENT / content_path(Path(package.flow_dir))
    while True:
        with locked(entry, shared=True):
            if (entry / _COMPLETE).exists():
                touch(entry)
                # Each time: a file beside the flow may be newer than the code.
                link_surroundings(Path(package.flow_dir), content)
                yield content
                return
        with locked(entry):
            if not (entry / _COMPLETE).exists():
                _unpack(package, entry, content, datastore_root, environment)
                cache.evict(entry)


def _unpack(
    package: CodePackage, entry: Path, content: Path, datastore_root: str, environment: Mapping[str, str] | None
) -> None:
    # What a process has left behind that was killed at this point.
    remove(entry)
    archive = entry / "package.tgz"
    try:
        content.mkdir(parents=True, mode=0o700)
        _fetch(package, archive, datastore_root, environment)
        _verify(package, archive)
        extract(archive, content)
        archive.unlink()
        if (content / PACKAGED_METAFLOW).is_dir():
            reuse_bytecode(content / PACKAGED_METAFLOW)
        if package.datastore == "local":
            # Metaflow writes cards to the `.metaflow` that it finds from the working directory on upwards, yet
            # its client looks for them in the datastore of the run.
            (content / ".metaflow").symlink_to(datastore_root)
        note_size(entry)
        (entry / _COMPLETE).touch()
    except (OSError, tarfile.TarError) as error:
        remove(entry)
        raise StepNotRunnableError(
            f"code package {package.url} cannot be unpacked into {entry} ({error}).",
            hint="Check that the datastore can be read from this worker and that the disk is not full.",
        ) from error
    except BaseException:
        remove(entry)
        raise


def _verify(package: CodePackage, archive: Path) -> None:
    """Check that the archive is the one that was deployed; Metaflow's datastore names it by its SHA-1."""
    digest = hashlib.sha1(usedforsecurity=False)
    with archive.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if digest.hexdigest() != package.sha:
        raise StepNotRunnableError(
            f"code package {package.url} is not the one that was deployed: its SHA-1 is {digest.hexdigest()}, "
            f"not {package.sha}. None of it was run.",
            hint="Find out who changed it in the datastore; then deploy the flow again.",
        )


def extract(archive: Path, target: Path) -> None:
    """Unpack an archive of files and folders so that nothing of it lands outside of the target.

    :param archive: a tar file.
    :param target: the folder.
    :raises tarfile.TarError: if a member would do so.
    """
    with tarfile.open(archive, "r:gz") as content:
        if hasattr(tarfile, "data_filter"):
            content.extractall(target, filter="data")
            return
        # Before 3.10.12 and 3.11.4 there are no filters (PEP 706). Metaflow's packages hold files and folders only.
        members = content.getmembers()
        for member in members:
            _check_member(member, target)
        content.extractall(target, members)  # noqa: S202


def _check_member(member: tarfile.TarInfo, target: Path) -> None:
    inside = (target / member.name).resolve().is_relative_to(target.resolve())
    if not (member.isfile() or member.isdir()) or Path(member.name).is_absolute() or not inside:
        raise tarfile.ExtractError(f"{member.name!r} is no plain file or folder inside the package")
    member.mode &= 0o755
    member.uid = member.gid = -1
    member.uname = member.gname = ""


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
