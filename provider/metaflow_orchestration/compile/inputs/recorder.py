"""Notes what the import of a flow reads beside its own folder.

Variables of the environment that code of the user reads, and files that Metaflow packages or the flow imports from
elsewhere. The compiler looks at them before it uses a compiled flow of its cache.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from metaflow_orchestration.compile.inputs.reads import Reads, digest_of
from metaflow_orchestration.compile.inputs.source_files import SUFFIXES

_files: set[str] = set()
_variables: set[str] = set()
_given: dict[str, str] = {}
"""The environment as it was at the start: what the flow sets itself depends on nothing else."""


def start_recording() -> None:
    """Note from now on what is read."""
    _given.update(os.environ)
    os.environ.__class__ = _Watched


def prepare() -> None:
    """Look up where modules lie that are imported now, for this process and its forks."""
    _installed()
    for path in _imported():
        _real(os.path.dirname(path))  # noqa: PTH120  (hundreds of them)


def note_packaged(paths: Iterable[str]) -> None:
    """Note files that Metaflow puts into the code package.

    :param paths: the files.
    """
    _files.update(paths)


def write_report(target: Path, folder: Path) -> None:
    """Write the variables and files that were read, with the hashes of their contents.

    :param target: the file; only this user may read it.
    :param folder: folder that is packaged, whose sources the compiler knows by itself.
    """
    installed, own = _installed(), os.path.realpath(folder) + os.sep
    files = {}
    for path in sorted({*_files, *_imported()}):
        folder_name, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(_real(folder_name), name)  # noqa: PTH114, PTH118
        is_known = real.startswith(installed) or (real.startswith(own) and real.endswith(SUFFIXES))
        if not is_known and Path(real).is_file():
            files[path] = hashlib.sha256(Path(real).read_bytes()).hexdigest()
    variables = {name: digest_of(_given[name]) if name in _given else None for name in sorted(_variables)}
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(Reads(files=files, variables=variables)))


def _imported() -> Iterator[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py"):
            yield os.path.abspath(file)  # noqa: PTH100  (hundreds of them)


@cache
def _real(path: str) -> str:
    # Most are Metaflow's own, and each look at a link costs.
    return os.path.realpath(path)


class _Watched(os._Environ):  # type: ignore[type-arg]
    """The environment, which notes the variables that code of the user asks for by name."""

    def __getitem__(self, name: str) -> str:
        if isinstance(name, str) and _asks_by_name(sys._getframe(1)):
            _variables.add(name)
        value: str = super().__getitem__(name)
        return value

    def __iter__(self) -> Any:
        _copying.append(_position(_caller(sys._getframe(1))))
        del _copying[:-1]
        return super().__iter__()


_copying: list[tuple[int, int] | None] = []
"""Where the environment was listed last: what is read there is a copy of all of it, not a question for one variable."""


def _asks_by_name(frame: FrameType) -> bool:
    caller = _caller(frame)
    if caller is None or _position(caller) in _copying:
        return False
    file = caller.f_code.co_filename
    return not file.startswith("<") and not _real(file).startswith(_installed())


def _caller(frame: FrameType | None) -> FrameType | None:
    """Return who called the functions of ``os`` and of mappings that lead here."""
    while frame is not None and frame.f_globals.get("__name__") in (
        "os",
        "_collections_abc",
        "collections.abc",
        __name__,
    ):
        frame = frame.f_back
    return frame


def _position(frame: FrameType | None) -> tuple[int, int] | None:
    return None if frame is None else (id(frame), frame.f_lasti)


@cache
def _installed() -> tuple[str, ...]:
    """Return the folders of what is installed, of which versions count, and not files."""
    # Found and not imported: the flow may not have come to its own import of it.
    found = find_spec("metaflow")
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    known = {*paths, *(found.submodule_search_locations or () if found else ()), str(Path(__file__).parents[3])}
    return tuple(os.path.realpath(path) + os.sep for path in known if path)
