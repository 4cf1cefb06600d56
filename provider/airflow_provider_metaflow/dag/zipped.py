"""Files of a zipped DAG file, which Airflow imports from the archive: unpacked once per archive."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from metaflow_orchestration.cache import ZIPPED, locked, touch
from metaflow_orchestration.exceptions import InvalidOptionError

_COMPLETE = ".complete"


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into, None if it leads into none.

    :param path: the path; need not exist.
    """
    for parent in path.parents:
        if parent.is_file():
            return parent if zipfile.is_zipfile(parent) else None
        if parent.is_dir():
            return None
    return None


def unzipped(path: Path) -> Path:
    """Return a file or folder of an archive as one of the file system; any other path is returned as it is.

    :param path: the path, e.g. ``dags/team.zip/flows``.
    :raises InvalidOptionError: if the archive cannot be read.
    :raises CacheFolderError: if the cache cannot be used.
    """
    archive = archive_of(path)
    if archive is None:
        return path
    from airflow_provider_metaflow import settings

    state = archive.stat()
    stamp = f"{archive.resolve()}\0{state.st_ino}\0{state.st_size}\0{state.st_mtime_ns}"
    cache = settings.cache()
    entry = cache.folder(ZIPPED) / f"{archive.stem}-{hashlib.sha256(stamp.encode()).hexdigest()[:32]}"
    with locked(entry):
        if not (entry / _COMPLETE).exists():
            try:
                with zipfile.ZipFile(archive) as content:
                    content.extractall(entry)
                (entry / _COMPLETE).touch()
            except (OSError, zipfile.BadZipFile, ValueError) as error:
                raise InvalidOptionError(f"the archive {archive} cannot be unpacked into {entry} ({error}).") from None
            cache.evict(entry)
        touch(entry)
    return entry / path.relative_to(archive)
