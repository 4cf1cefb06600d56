"""Runs a flow file as ``python FLOW.py …`` does, and notes what beside its own folder its import has read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import msgspec

from metaflow_orchestration.compile.inputs.layout import extend_import_paths, package_of
from metaflow_orchestration.compile.inputs.recorder import start_recording, write_report

from .order import Order


def main() -> None:
    """Run ``sys.argv[2]`` with the arguments after it, and write what it has read, as the order ``sys.argv[1]`` says.

    It is run as ``python PATH/FLOW.py`` is in the working directory, or as ``python -m PATH.FLOW`` if it has relative
    imports.
    """
    order = msgspec.json.decode(sys.argv[1], type=Order)
    root = Path.cwd()
    flow = Path(os.path.normpath(root / sys.argv[2]))
    sys.argv = sys.argv[2:]
    if order.key and _fetched(order, root):
        return
    before = _state_of(order.target)
    package = package_of(flow, root)
    if getattr(sys.flags, "safe_path", False):
        # PYTHONSAFEPATH leaves out the first entry, which is to be replaced.
        sys.path.insert(0, "")
    sys.path[0] = str(root if package else flow.parent)
    extend_import_paths([str(root), *order.import_paths])
    start_recording()
    module = ModuleType("__main__")
    module.__file__ = str(flow)
    module.__package__ = package or None
    sys.modules["__main__"] = module
    try:
        # As a program, and not by runpy, which removes its module again before exit handlers run.
        exec(compile(flow.read_bytes(), str(flow), "exec"), vars(module))  # noqa: S102  (this is how it is compiled)
    finally:
        if "metaflow" in sys.modules:
            write_report(Path(order.reads), root)
            if order.key and _state_of(order.target) not in (None, before):
                from .shared_manifests import share

                share(order, root)


def _fetched(order: Order, root: Path) -> bool:
    """Fetch the flow from the datastore if another machine has compiled it; return whether there is one."""
    if "metaflow" in sys.modules:
        from .shared_manifests import fetch

        return fetch(order, root, sys.argv[1:])
    # The flow may set variables before it imports Metaflow, which reads its settings then.
    child = os.fork()
    if child == 0:
        status = 1
        try:
            from .shared_manifests import fetch

            status = 0 if fetch(order, root, sys.argv[1:]) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _state_of(name: str) -> tuple[int, int] | None:
    try:
        state = Path(name).stat()
    except OSError:
        return None
    return (state.st_ino, state.st_mtime_ns)
