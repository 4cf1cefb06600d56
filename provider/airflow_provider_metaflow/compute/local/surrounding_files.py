"""What lies around a flow and is not in its code package: linked to where the package is unpacked on a worker.

So a step finds it by relative name as in a local run: data beside the flow, and what the flow reaches by the parents of
its ``__file__``. What the package holds is never replaced.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_LEVELS = 3
"""How many folders above that of the flow are shown."""

_MOST_ENTRIES = 500
"""A folder of more is a drive or a home, and no project."""

_MOST_LOOKED_AT = 20_000
"""How many names below a folder of the flow are read in search of code: a folder of more is one of data."""

_MOST_FOLDERS = 1_000
"""How many folders below that of the flow are shown entry by entry; of what is beyond, nothing is shown."""

_CODE = (".py", ".R", ".RDS", ".so", ".pyd", ".pyc")
"""What Metaflow packages by default: where it is not in the package, it is newer than what was deployed."""


def content_path(folder: Path) -> Path:
    """Return where a package is unpacked in its entry of the cache: as deep as its own folder lies in its project.

    :param folder: the folder that was packaged.
    """
    return Path(*[parent.name for parent in reversed(list(_parents(folder)))][1:], folder.name or "flow")


def link_surroundings(folder: Path, content: Path) -> None:
    """Link what lies in a folder, and in those above it, and is not in the package; several processes may do so.

    :param folder: the folder that was packaged; need not be there.
    :param content: where the package is unpacked.
    """
    if folder == folder.parent or _is_foreign(folder):
        return
    _link_inside(folder, content)
    for parent in _parents(folder):
        content = content.parent
        _link_beside(parent, content)


def _is_foreign(folder: Path) -> bool:
    """Return whether somebody else may have made a folder, as in /tmp, where everybody makes what they like."""
    there = [one for one in (folder, *folder.parents) if one.exists()]
    owned = (0, os.getuid())
    return any(one.parent.stat().st_mode & stat.S_IWOTH and one.stat().st_uid not in owned for one in there)


def _holds_code(folder: str) -> bool:
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(name.endswith(_CODE) for name in islice(names, _MOST_LOOKED_AT))


def _parents(folder: Path) -> Iterator[Path]:
    """Yield the folders above that may belong to the project of a flow, the next first."""
    for parent in list(folder.parents)[:_LEVELS]:
        if parent == parent.parent or str(parent) == os.path.expanduser("~"):  # noqa: PTH111  (there may be no home)
            return
        yield parent


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return what may be shown of a folder: what is hidden or made by Python is nobody's data."""
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    return [entry for entry in found if not entry.name.startswith(".") and entry.name != "__pycache__"]


def _link_beside(source: Path, target: Path) -> None:
    """Link the entries of a folder above that of the flow."""
    try:
        # In a folder like /tmp everybody can put files.
        if stat.S_IMODE(source.stat().st_mode) & stat.S_IWOTH:
            return
    except OSError:
        return
    entries = _entries(source)
    if len(entries) <= _MOST_ENTRIES:
        for entry in entries:
            _link(entry, target / entry.name)


def _link_inside(folder: Path, content: Path) -> None:
    """Link the entries of a flow's folder, and of those below it that the package has, too."""
    real = os.path.realpath(folder)
    left = [(str(folder), content, frozenset({real, *map(str, Path(real).parents)}))]
    for _ in range(_MOST_FOLDERS):
        if not left:
            return
        source, target, above = left.pop(0)
        for entry in _entries(source):
            twin = target / entry.name
            if _is_folder(entry):
                # A link back to a folder above has no end.
                if (real := os.path.realpath(entry.path)) in above:
                    continue
                # A package that is newer than what was deployed is made; its data may be wanted.
                if not os.path.lexists(twin) and _holds_code(entry.path):
                    twin.mkdir(exist_ok=True)
                if twin.is_dir() and not twin.is_symlink():
                    left.append((entry.path, twin, above | {real}))
                    continue
            if not entry.name.endswith(_CODE):
                _link(entry, twin)


def _link(entry: os.DirEntry[str], twin: Path) -> None:
    if not os.path.lexists(twin):
        with contextlib.suppress(FileExistsError):
            twin.symlink_to(os.path.abspath(entry.path))  # noqa: PTH100  (it may be a link that changes)
