"""What was compressed for a code package, kept in a file of this user between two commands.

Code packages start with Metaflow's own files, and compressing these takes a tenth of the time of ``create``. Tasks run
what such a file holds: it is read from a folder alone that no other user can enter. A folder that is not so, that
cannot be written to, or a damaged file costs that time, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from metaflow_orchestration.cache import private_folder
from metaflow_orchestration.exceptions import CacheFolderError

_DIGEST_BYTES = hashlib.sha256().digest_size


def kept(name: str, key: str, make: Callable[[], bytes]) -> bytes:
    """Return bytes that were made before from the same input, or make them.

    :param name: what they are, for example the folder of an installation; one file is kept for each.
    :param key: all that the bytes depend on.
    :param make: makes them.
    """
    expected = hashlib.sha256(key.encode()).digest()
    path = _file(name)
    if path is not None and (found := _read(path, expected)) is not None:
        return found
    made = make()
    if path is not None:
        _write(path, expected + hashlib.sha256(made).digest() + made)
    return made


def _file(name: str) -> Path | None:
    # RuntimeError: the user has no home folder.
    with contextlib.suppress(CacheFolderError, OSError, RuntimeError):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = private_folder(private_folder(home / "airflow-provider-metaflow") / "compressed")
        return folder / hashlib.sha256(name.encode()).hexdigest()
    return None


def _read(path: Path, expected: bytes) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    key, digest, made = (
        content[:_DIGEST_BYTES],
        content[_DIGEST_BYTES : 2 * _DIGEST_BYTES],
        content[2 * _DIGEST_BYTES :],
    )
    return made if key == expected and digest == hashlib.sha256(made).digest() else None


def _write(path: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):
        descriptor, unfinished = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(unfinished, path)  # noqa: PTH105  (two names of one folder)
        except OSError:
            Path(unfinished).unlink(missing_ok=True)
            raise
