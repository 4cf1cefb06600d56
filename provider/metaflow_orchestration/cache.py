"""The folder of compiled manifests and unpacked code packages: private to one user, bounded, shared by processes.

Code from this folder runs with the rights of Airflow, and its manifests hold production tokens. So no other user may
enter it, and a folder that another user has made is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaflow_orchestration.exceptions import CacheFolderError

DEFAULT_LIMIT_BYTES = 4 * 1024**3
"""How much a cache may hold if nothing else is configured."""

MANIFESTS = "manifests"
CODE = "code"
ZIPPED = "zipped"

_HINT = "Set `[metaflow] cache_folder` to a folder that only this user can enter, or to one that does not exist yet."
_LOCK = ".lock"
_SIZE = ".size"
_UNFINISHED_SECONDS = 3600
"""How long a hidden file counts as one that a process is writing; then it is what a killed process has left behind."""


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache. Its entries are files and folders in folders of their kind, each with a lock file beside it.

    :param root: its folder; made if missing.
    :param limit_bytes: entries that were not used for longest are removed when it holds more.
    """

    root: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    @classmethod
    def at(cls, cache: Cache | Path) -> Cache:
        """Return a cache, given one or its folder.

        :param cache: the cache, or its folder.
        """
        return cache if isinstance(cache, Cache) else cls(cache)

    def folder(self, kind: str) -> Path:
        """Return the folder of one kind of entries.

        :param kind: :data:`MANIFESTS`, :data:`CODE` or :data:`ZIPPED`.
        :raises CacheFolderError: if another user may have written there, or if the folder cannot be made.
        """
        private_folder(self.root)
        return private_folder(self.root / kind)

    def evict(self, keep: Path) -> None:
        """Remove the entries that were not used for longest until the cache is within its limit.

        Entries that a process uses or makes, which it shows by holding their lock, stay.

        :param keep: an entry that stays in any case: the one that was just made.
        """
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        excess = sum(entry.size for entry in entries) - self.limit_bytes
        for entry in entries:
            if excess <= 0:
                return
            if entry.path != keep and _removed(entry.path):
                excess -= entry.size

    def _entries(self) -> Iterator[_Entry]:
        for kind in (MANIFESTS, CODE, *([ZIPPED] if (self.root / ZIPPED).exists() else [])):
            folder = self.folder(kind)
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    state = path.lstat()
                    used = max(state.st_atime, state.st_mtime)
                    if path.suffix == _LOCK or (path.name.startswith(".") and time.time() - used < _UNFINISHED_SECONDS):
                        continue
                    yield _Entry(path, used, size_of(path))


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    used: float
    size: int


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, or check that an existing one is so.

    Another user's folder and a symbolic link are refused. An own folder that others can only read is closed to them.

    :param path: the folder.
    :returns: the folder.
    :raises CacheFolderError: if it is not private and cannot be made so, or if it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        _check_private(path)
    except OSError as error:
        raise CacheFolderError(f"the folder {path} cannot be made private ({error.strerror}).", hint=_HINT) from None
    return path


def _check_private(path: Path) -> None:
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        raise CacheFolderError(f"{path} is a symbolic link or a file, and no folder.", hint=_HINT)
    if state.st_uid != os.geteuid():
        raise CacheFolderError(f"the folder {path} belongs to another user (uid {state.st_uid}).", hint=_HINT)
    if state.st_mode & 0o022:
        raise CacheFolderError(
            f"other users can write to the folder {path} (mode {stat.S_IMODE(state.st_mode):04o}).",
            hint=f"Remove it, for its content cannot be trusted. {_HINT}",
        )
    if state.st_mode & 0o077:
        path.chmod(0o700)


@contextlib.contextmanager
def locked(entry: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of an entry among all processes of the machine.

    :param entry: the entry; its lock file stands beside it.
    :param shared: for a process that only reads: several may hold it at a time.
    """
    descriptor = _acquire(entry, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    assert descriptor is not None  # noqa: S101  (it has waited)
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked(entry: Path) -> bool:
    """Return whether a process makes or uses an entry now.

    :param entry: the entry.
    """
    descriptor = _acquire(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def touch(entry: Path) -> None:
    """Note that an entry is used now. This is its access time; its modification time stays.

    :param entry: the entry.
    """
    with contextlib.suppress(OSError):
        os.utime(entry, ns=(time.time_ns(), entry.stat().st_mtime_ns))


def note_size(entry: Path) -> None:
    """Write down how large a folder is, so that not all of its files are looked at each time.

    :param entry: a folder whose content is complete.
    """
    (entry / _SIZE).write_text(str(size_of(entry)))


def size_of(path: Path) -> int:
    """Return the disk space of an entry in bytes, without what its links point to.

    :param path: a file or folder.
    """
    with contextlib.suppress(OSError, ValueError):
        return int((path / _SIZE).read_text())
    total = path.lstat().st_blocks * 512
    if path.is_dir() and not path.is_symlink():
        for root, folders, files in os.walk(path):
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118  (thousands of files)
    return total


def remove(path: Path) -> None:
    """Remove an entry, whatever it is.

    :param path: a file or folder; may be missing.
    """
    if path.is_dir() and not path.is_symlink():
        # Under another name first: no process must take what is left of it for the entry.
        doomed = path.with_name(f".{path.name}.removed-{os.getpid()}-{time.time_ns()}")
        with contextlib.suppress(OSError):
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _removed(path: Path) -> bool:
    """Remove an entry with its lock, unless a process holds that; return whether it is gone."""
    descriptor = _acquire(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if descriptor is None:
        return False
    try:
        remove(path)
        with contextlib.suppress(OSError):
            _lock_file(path).unlink()
    finally:
        os.close(descriptor)
    return not path.exists()


def _lock_file(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}{_LOCK}")


def _acquire(entry: Path, mode: int) -> int | None:
    """Return a descriptor that holds the lock; None if it is held elsewhere and the mode does not wait."""
    path = _lock_file(entry)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise CacheFolderError(f"the lock file {path} cannot be opened ({error.strerror}).", hint=_HINT) from None
        try:
            fcntl.flock(descriptor, mode)
            # Whoever removes an entry removes its lock file, too; a lock on a file without a name guards nothing.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise CacheFolderError(
                f"the file system of {path.parent} has no locks ({error.strerror}).",
                hint="Set `[metaflow] cache_folder` to a folder of a local disk.",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
