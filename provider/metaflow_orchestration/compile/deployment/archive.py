"""The archive of a code package: Metaflow's, of which its own files are compressed once. Imports Metaflow.

Metaflow puts all of itself, some 450 files, into each package, first. They make a gzip member of their own here, so
that it can be used again, by other processes too; what is packed beside them is the second. Members that follow each
other are one file to every reader of gzip (RFC 1952, section 2.2).
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import metaflow
import msgspec
from metaflow.packaging_sys import ContentType
from metaflow.packaging_sys.tar_backend import TarPackagingBackend
from metaflow.packaging_sys.v1 import MetaflowCodeContentV1

from metaflow_orchestration.compile.deployment.compressed import kept

_LEVEL = 3
"""That of Metaflow's own archives."""

_METAFLOW = os.path.dirname(metaflow.__file__) + os.sep  # noqa: PTH120  (a prefix of hundreds of names)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file as it is packed: the same file again, if all of this is the same."""

    path: str
    name: str
    size: int
    modified: int
    changed: int
    mode: int


class PackageArchive(TarPackagingBackend):  # type: ignore[misc]
    """Metaflow's archive of type ``tgz``, in two gzip members."""

    type = "tgz in two members"
    """Metaflow knows each backend by its type; this one writes what its own reads."""

    @classmethod
    def backend_type(cls) -> str:
        """Return the type of the archive, which tells a task how to read it."""
        return str(TarPackagingBackend.type)

    def create(self) -> PackageArchive:
        """Begin an archive, and return it."""
        self._first: list[_Entry] = []
        self._buf = BytesIO()
        self._archive = tarfile.open(fileobj=self._buf, mode="w", dereference=True)  # noqa: SIM115  (closed in close)
        return self

    def add_file(self, filename: str, arcname: str | None = None) -> None:
        """Add a file.

        :param filename: its path.
        :param arcname: its name in the archive; default: its path.
        """
        if filename.startswith(_METAFLOW) and not self._buf.tell():
            self._first.append(_entry(filename, arcname or filename))
        else:
            super().add_file(filename, arcname)

    def get_blob(self) -> bytearray:
        """Return the bytes of the archive."""
        return bytearray(_compressed(tuple(self._first)) + self.compressed())

    def compressed(self) -> bytes:
        """Return what was written to the archive itself, as a gzip member."""
        return gzip.compress(self._buf.getvalue(), _LEVEL, mtime=0)


def prepare() -> None:
    """Compress Metaflow's own files for the packages that this process and its forks make."""
    files = MetaflowCodeContentV1(criteria=lambda _: False).content_names(ContentType.CODE_CONTENT.value)
    _compressed(tuple(_entry(path, name) for path, name in files if path.startswith(_METAFLOW)))


def _entry(path: str, name: str) -> _Entry:
    state = os.stat(path)  # noqa: PTH116  (hundreds of files)
    return _Entry(path, name, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_mode)


@lru_cache(maxsize=1)
def _compressed(files: tuple[_Entry, ...]) -> bytes:
    """Return files as the beginning of a compressed archive."""
    key = msgspec.json.encode((zlib.ZLIB_RUNTIME_VERSION, _LEVEL, files)).decode()
    return kept(_METAFLOW, key, lambda: _compress(files))


def _compress(files: tuple[_Entry, ...]) -> bytes:
    part = PackageArchive().create()
    for file in files:
        super(PackageArchive, part).add_file(file.path, file.name)
    # Not closed: that would write the end of the archive.
    return part.compressed()
