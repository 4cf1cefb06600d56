"""Which files beside a flow its compiled form depends on. Reads them, and runs none."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".py", ".R", ".RDS")
"""Files that Metaflow packages with a flow (``metaflow.packaging_sys``: default suffixes)."""

_LARGE_BYTES = 1 << 20

_WORD = re.compile(rb"[A-Za-z_]\w*")
_CLASS = re.compile(rb"(?m)^class\s+\w+\s*\(")
_CALL = re.compile(rb"(?m)^(if\s+__name__\b|[A-Za-z_]\w*\()")
ENVIRONMENT_MARK = "pyvenv.cfg"
"""A file in the root of each virtual environment (PEP 405)."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may count.

    :param path: the file.
    :param digest: SHA-256 of its content.
    :param words: the identifiers in it.
    :param is_flow: whether it may define a flow, or what flows are derived from.
    :param runs: whether it calls something when it is run as a program, as a flow file does.
    """

    path: Path
    digest: bytes
    words: frozenset[bytes]
    is_flow: bool
    runs: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies in a folder, and below it.

    :param helpers: files that every flow of the folder depends on.
    :param flows: files with flows, by the name of their module.
    :param names: those names.
    """

    helpers: tuple[SourceFile, ...]
    flows: Mapping[bytes, Sequence[SourceFile]]
    names: frozenset[bytes]


_seen: dict[Path, _Found] | None = None

_Stamp = tuple[int, int, int]
_read: dict[Path, tuple[_Stamp, SourceFile]] = {}
"""What this process has read, with inode, size and time of the files: 200 flows of a folder share their helpers."""


def source_files(flow: Path, root: Path | None = None) -> list[SourceFile]:
    """Return what the compiled form of a flow depends on in its folder: itself, helper modules, flows that it names.

    Helper modules always count, since a step may import them when it runs. Another flow file counts only if a file
    that counts holds the name of its module, as an ``import`` does, or a call like ``import_module("base")``: a change
    of one flow of a folder compiles that flow, and not all of them.

    :param flow: the flow file.
    :param root: the folder that Metaflow packages; default: that of the flow file.
    :raises OSError: if the flow file cannot be read.
    """
    if root is not None:
        flow = flow.absolute()
    found = _found(root or flow.parent)
    left = [_source(flow, must=True), *found.helpers]
    counts: dict[Path, SourceFile] = {}
    while left:
        one = left.pop()
        if one is not None and one.path not in counts:
            counts[one.path] = one
            for name in one.words & found.names:
                left += found.flows[name]
    return [counts[path] for path in sorted(counts)]


@contextmanager
def seen_at_once() -> Iterator[None]:
    """Look at each folder once within the ``with`` block: 200 flows of a folder have the same files beside them."""
    global _seen  # noqa: PLW0603  (of this process, which parses one DAG file at a time)
    _seen = {}
    try:
        yield
    finally:
        _seen = None


def _found(folder: Path) -> _Found:
    known = None if _seen is None else _seen.get(folder)
    if known is None:
        sources = [source for path in _files(folder, set()) if (source := _source(path)) is not None]
        flows: dict[bytes, list[SourceFile]] = {}
        for one in sources:
            if one.is_flow:
                flows.setdefault(_module_name(one.path).encode(), []).append(one)
        known = _Found(tuple(one for one in sources if not one.is_flow), flows, frozenset(flows))
        if _seen is not None:
            _seen[folder] = known
    return known


def may_run_a_flow(path: Path) -> bool:
    """Return whether a file may be a flow file, which runs a flow when it is run as a program.

    It calls something there, and speaks of Metaflow or of a module beside it that does: a module of base classes is no
    flow file, and a flow need not name `FlowSpec` itself. One that cannot be read may be one, and fails where it is
    compiled.

    :param path: the file.
    """
    if not path.is_file():
        return False
    source = _source(path)
    if source is None:
        return True
    if not source.runs or {b"FlowSpec", b"metaflow"} & source.words:
        return source.runs
    beside = (_source(one) for one in path.parent.glob("*.py") if one.stem.encode() in source.words and one != path)
    return any(one is not None and b"FlowSpec" in one.words for one in beside)


def names(path: Path, word: str) -> bool:
    """Return whether a file holds an identifier; true if it cannot be read.

    :param path: the file.
    :param word: the identifier.
    """
    source = _source(path)
    return source is None or word.encode() in source.words


def other_files(folder: Path) -> list[tuple[str, str]]:
    """Return what else lies in a project, by relative path: digests of contents, and sizes of large files.

    A flow may read any of it when it is imported, or have it packaged.

    :param folder: the folder that Metaflow packages.
    """
    found = []
    for path in _files(folder, set(), sources=False):
        try:
            size = path.stat().st_size
            content = str(size) if size > _LARGE_BYTES else hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            # A link that leads nowhere, a pipe, what nobody may read.
            content = "unreadable"
        found.append((os.path.relpath(path, folder), content))
    return found


def _module_name(path: Path) -> str:
    return path.parent.name if path.name == "__init__.py" else path.stem


def _files(folder: Path, seen: set[str], *, sources: bool = True) -> Iterator[Path]:
    """Yield the sources that Metaflow may package, or all else; it follows links, and leaves hidden folders out."""
    real = os.path.realpath(folder)
    if real in seen or (seen and (folder / ENVIRONMENT_MARK).exists()):
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            if not entry.name.startswith(".") and entry.name != "__pycache__":
                yield from _files(Path(entry.path), seen, sources=sources)
        elif entry.name.endswith(SUFFIXES) == sources and (sources or entry.is_file()):
            yield Path(entry.path)


def _source(path: Path, *, must: bool = False) -> SourceFile | None:
    """Read a file; None for one that cannot be read, such as a dangling link or an editor's lock file."""
    try:
        state = path.stat()
        stamp = (state.st_ino, state.st_size, state.st_mtime_ns)
        known = _read.get(path)
        if known is None or known[0] != stamp:
            data = path.read_bytes()
            words = frozenset(_WORD.findall(data)) if path.suffix == ".py" else frozenset()
            runs = bool(_CALL.search(data) and _CLASS.search(data))
            is_flow = path.suffix == ".py" and (b"FlowSpec" in words or (runs and b"metaflow" in words))
            _read[path] = known = (stamp, SourceFile(path, hashlib.sha256(data).digest(), words, is_flow, runs))
        return known[1]
    except OSError:
        if must:
            raise
        return None
