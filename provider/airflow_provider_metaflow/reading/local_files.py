"""Metaflow's local datastore and metadata as plain files.

What stands there was written by tasks, which may be hostile: links are not followed, and only regular files are
read, so that nothing but the datastore itself can be seen through it. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_MAX_METADATA_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a named pipe would wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WANTED = ("sysmeta_attempt", "sysmeta_start_step_", "sysmeta_end_step_")


def json_of(text: str | None) -> Any:
    """Return what a text holds as JSON; None for no text, and for one that is no JSON.

    :param text: the text.
    """
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


class LocalFiles:
    """An ``Index`` and a ``Store`` of ``questions.py`` over a folder.

    :param root: the folder ``.metaflow``.
    :param too_large: returns the exception for a file that is too large, of a size in bytes.
    :param metadatum: makes a ``Metadatum``.
    """

    def __init__(self, root: str, too_large: Any, metadatum: Any) -> None:
        self._root, self._too_large, self._metadatum = root, too_large, metadatum

    def run(self, flow: str, run: str) -> Mapping[str, Any] | None:
        """Return what is registered of a run, None if there is none."""
        return self._own([flow, run])

    def steps(self, flow: str, run: str) -> list[str]:
        """Return the steps of a run, the first to start first."""
        found = []
        for name in self._folders([flow, run]):
            own = self._own([flow, run, name])
            if own is not None:
                found.append((own.get("ts_epoch") or 0, name))
        return [name for _, name in sorted(found)]

    def tasks(self, flow: str, run: str, step: str) -> list[str]:
        """Return the tasks of a step in the order of the numbers in their ids."""
        return sorted(self._folders([flow, run, step]), key=_natural)

    def metadata(self, flow: str, run: str, step: str, task: str) -> list[Any]:
        """Return the metadata of a task about its attempts and the graph, the oldest first."""
        found = []
        folder = [flow, run, step, task, "_meta"]
        for name in self.names(folder):
            one = self.document([*folder, name], _MAX_METADATA_BYTES) if name.startswith(_WANTED) else None
            if isinstance(one, dict):
                found.append((one.get("ts_epoch") or 0, self._metadatum(one)))
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def document(self, path: Sequence[str], limit: int) -> Any:
        """Return a JSON document; None if there is none, or it is no JSON.

        :param path: names of the folders below the root and of the file.
        :param limit: bytes that it may have.
        """
        return json_of(self.text(path, limit))

    def names(self, path: Sequence[str]) -> list[str]:
        """Return the names in a folder, in order; none if there is no such folder.

        :param path: names of the folders below the root.
        """
        with self._folder(path) as folder:
            return [] if folder is None else sorted(os.listdir(folder))  # noqa: PTH208  (of a descriptor)

    def text(self, path: Sequence[str], limit: int) -> str | None:
        """Return a text; None if there is no such file.

        :param path: names of the folders below the root and of the file.
        :param limit: bytes that it may have; its size is looked at before it is read.
        """
        with self._folder(path[:-1]) as folder:
            if folder is None:
                return None
            try:
                descriptor = os.open(_checked(path[-1]), _FILE, dir_fd=folder)
            except FileNotFoundError:
                return None
            except OSError as error:
                # A link, or a socket.
                if error.errno not in (errno.ELOOP, errno.ENXIO):
                    raise
                return None
            with os.fdopen(descriptor, "rb") as file:
                state = os.fstat(descriptor)
                if not stat.S_ISREG(state.st_mode):
                    return None
                if state.st_size > limit:
                    raise self._too_large(state.st_size)
                return file.read(limit).decode("utf-8", "replace")

    def _own(self, path: Sequence[str]) -> Mapping[str, Any] | None:
        """Return what Metaflow's local metadata provider has written of an object."""
        found = self.document([*path, "_meta", "_self.json"], _MAX_METADATA_BYTES)
        return found if isinstance(found, dict) else None

    def _folders(self, path: Sequence[str]) -> list[str]:
        with self._folder(path) as folder:
            if folder is None:
                return []
            with os.scandir(folder) as entries:
                return [one.name for one in entries if one.name != "_meta" and one.is_dir(follow_symlinks=False)]

    @contextlib.contextmanager
    def _folder(self, path: Sequence[str]) -> Iterator[int | None]:
        """Open a folder, name by name, so that no link on the way leads elsewhere."""
        descriptor: int | None = None
        missing = False
        try:
            try:
                descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                for name in path:
                    inner = os.open(_checked(name), _FOLDER, dir_fd=descriptor)
                    os.close(descriptor)
                    descriptor = inner
            except (FileNotFoundError, NotADirectoryError):
                missing = True
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                missing = True
            yield None if missing else descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _checked(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FileNotFoundError(f"{name!r} is no name of a file")
    return name


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def local_root(sysroot: str) -> str:
    """Return the datastore in the folder that ``METAFLOW_DATASTORE_SYSROOT_LOCAL`` names.

    :param sysroot: the folder.
    """
    return str(Path(sysroot) / ".metaflow")
