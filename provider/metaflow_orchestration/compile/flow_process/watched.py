"""Runs a flow file as ``python FLOW.py …`` does, and notes what beside its own folder its import has read.

For the process that compiles a flow: variables of the environment that code of the user reads, and files that Metaflow
packages or the flow imports from elsewhere. The compiler looks at them before it takes a compiled flow from its cache.
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
from types import FrameType, ModuleType
from typing import Any

import msgspec

from metaflow_orchestration.compile.inputs.layout import extend_import_paths, package_of
from metaflow_orchestration.compile.inputs.reads import Reads, digest_of
from metaflow_orchestration.compile.inputs.source_files import SUFFIXES

from .order import Order

_files: set[str] = set()
_variables: set[str] = set()
_given: dict[str, str] = {}
"""The environment as it was at the start: what the flow sets itself depends on nothing else."""


def main() -> None:
    """Run ``sys.argv[2]`` with the arguments after it, and write what it has read, as the order ``sys.argv[1]`` says.

    It is run as ``python PATH/FLOW.py`` is in the working directory, or as ``python -m PATH.FLOW`` if it has relative
    imports.
    """
    order = msgspec.json.decode(sys.argv[1], type=Order)
    root = Path.cwd()
    flow = Path(os.path.normpath(root / sys.argv[2]))
    sys.argv = sys.argv[2:]
    if order.key and _taken(order, root):
        return
    before = _state_of(order.target)
    package = package_of(flow, root)
    if getattr(sys.flags, "safe_path", False):
        # PYTHONSAFEPATH leaves out the first entry, which is to be replaced.
        sys.path.insert(0, "")
    sys.path[0] = str(root if package else flow.parent)
    extend_import_paths([str(root), *order.import_paths])
    _given.update(os.environ)
    os.environ.__class__ = _Watched
    module = ModuleType("__main__")
    module.__file__ = str(flow)
    module.__package__ = package or None
    sys.modules["__main__"] = module
    try:
        # As a program, and not by runpy, which takes its module away again before exit handlers run.
        exec(compile(flow.read_bytes(), str(flow), "exec"), vars(module))  # noqa: S102  (this is how it is compiled)
    finally:
        if "metaflow" in sys.modules:
            write_report(Path(order.reads), root)
            if order.key and _state_of(order.target) not in (None, before):
                from .shared_manifests import share

                share(order, root)


def _taken(order: Order, root: Path) -> bool:
    """Take the flow from the datastore if another machine has compiled it; return whether there is one."""
    if "metaflow" in sys.modules:
        from .shared_manifests import take

        return take(order, root, sys.argv[1:])
    # The flow may set variables before it imports Metaflow, which reads its settings then.
    child = os.fork()
    if child == 0:
        status = 1
        try:
            from .shared_manifests import take

            status = 0 if take(order, root, sys.argv[1:]) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _state_of(name: str) -> tuple[int, int] | None:
    try:
        state = Path(name).stat()
    except OSError:
        return None
    return (state.st_ino, state.st_mtime_ns)


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
    real_folder = cache(os.path.realpath)
    for path in sorted({*_files, *_imported()}):
        # Most are Metaflow's own, and each look at a link costs.
        folder_name, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder_name), name)  # noqa: PTH114, PTH118
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


class _Watched(os._Environ):  # type: ignore[type-arg]
    """The environment, which notes the variables that code of the user asks for by name."""

    def __getitem__(self, name: str) -> str:
        if isinstance(name, str) and _asks_by_name(sys._getframe(1)):
            _variables.add(name)
        value: str = super().__getitem__(name)
        return value

    def __iter__(self) -> Any:
        _copying.append(_place(_caller(sys._getframe(1))))
        del _copying[:-1]
        return super().__iter__()


_copying: list[tuple[int, int] | None] = []
"""Where the environment was listed last: what is read there is a copy of all of it, not a question for one variable."""


def _asks_by_name(frame: FrameType) -> bool:
    caller = _caller(frame)
    if caller is None or _place(caller) in _copying:
        return False
    file = caller.f_code.co_filename
    return not file.startswith("<") and not os.path.realpath(file).startswith(_installed())


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


def _place(frame: FrameType | None) -> tuple[int, int] | None:
    return None if frame is None else (id(frame), frame.f_lasti)


@cache
def _installed() -> tuple[str, ...]:
    """Return the folders of what is installed, of which versions count, and not files."""
    # Found and not imported: the flow may not have come to its own import of it.
    found = find_spec("metaflow")
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    known = {*paths, *(found.submodule_search_locations or () if found else ()), str(Path(__file__).parents[3])}
    return tuple(os.path.realpath(path) + os.sep for path in known if path)
