"""How a flow file lies in its project: the folder that it is started from, and the package that it belongs to."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from functools import cache
from pathlib import Path

_RELATIVE_IMPORT = re.compile(rb"(?m)^\s*from\s+\.+\s*[\w]*\s+import\b|^\s*from\s+\.[.\w]*\s+import\b")


def has_relative_imports(flow: Path) -> bool:
    """Return whether a flow file imports relative to its package, so that it is run as ``python -m package.flow``.

    :param flow: the flow file.
    """
    try:
        return _RELATIVE_IMPORT.search(flow.read_bytes()) is not None
    except OSError:
        return False


def project_root_of(flow: Path, given: str | None) -> Path | None:
    """Return the folder that a flow is started from; None: its own folder, as in ``cd FOLDER; python flow.py``.

    :param flow: the flow file.
    :param given: what the user says.
    """
    if given is not None:
        return Path(given).absolute()
    if not (flow.parent / "__init__.py").exists() or not has_relative_imports(flow):
        return None
    root = flow.absolute().parent
    while (root / "__init__.py").exists() and root != root.parent:
        root = root.parent
    return root


def package_of(flow: Path, root: Path) -> str:
    """Return the package of a flow file with relative imports, as ``python -m`` knows it; empty for a script.

    :param flow: the flow file.
    :param root: the folder that it is started from.
    """
    folder = Path(os.path.relpath(flow.absolute().parent, root.absolute()))
    if folder == Path() or ".." in folder.parts or not has_relative_imports(flow):
        return ""
    return ".".join(folder.parts)


def own_import_paths() -> tuple[str, ...]:
    """Return the entries of ``sys.path`` that Airflow or a DAG file has added in this process.

    Airflow puts the root of a bundle, and its folders of plugins and configuration there. What a DAG file imports from
    them, the flow of that DAG file can import, too.
    """
    installed = _installed()
    found = dict.fromkeys(os.path.abspath(one) for one in sys.path if one)  # noqa: PTH100  (links count)
    return tuple(one for one in found if os.path.isdir(one) and not _is_below(one, installed))  # noqa: PTH112


@cache
def _installed() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {os.path.realpath(path) for name in names if (path := sysconfig.get_path(name))}
    return tuple(sorted(path + os.sep for path in paths))


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return (os.path.realpath(path) + os.sep).startswith(folders)


def extend_import_paths(paths: tuple[str, ...] | list[str]) -> None:
    """Append folders to ``sys.path``, behind all that is there: they hide nothing.

    :param paths: the folders.
    """
    sys.path.extend(path for path in paths if path not in sys.path)
