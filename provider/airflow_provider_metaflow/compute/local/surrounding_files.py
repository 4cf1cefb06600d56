"""What lies around a flow and is not in its code package: linked to where the package is unpacked on a worker.

So a step finds it by relative name as in a local run: data beside the flow, and what the flow reaches by the parents of
its ``__file__``. What the package holds is never replaced.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_LEVELS = 3
"""How many folders above that of the flow are shown."""

_MOST_ENTRIES = 500
"""A folder of more is a drive or a home, and no project."""

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
    if _is_foreign(folder):
        return
    _link(folder, content, inside=True)
    for parent in _parents(folder):
        content = content.parent
        _link(parent, content, inside=False)


def _is_foreign(folder: Path) -> bool:
    """Return whether somebody else may have made a folder, as in /tmp, where everybody makes what they like."""
    there = [one for one in (folder, *folder.parents) if one.exists()]
    owned = (0, os.getuid())
    return any(one.parent.stat().st_mode & stat.S_IWOTH and one.stat().st_uid not in owned for one in there)


def _holds_code(folder: str) -> bool:
    return any(name.endswith(_CODE) for _, _, names in os.walk(folder) for name in names)


def _parents(folder: Path) -> Iterator[Path]:
    """Yield the folders above that may belong to the project of a flow, the next first."""
    for parent in list(folder.parents)[:_LEVELS]:
        if parent == parent.parent or str(parent) == os.path.expanduser("~"):  # noqa: PTH111  (there may be no home)
            return
        yield parent


def _link(source: Path, target: Path, *, inside: bool) -> None:
    """Link the entries of a folder, and of those below it that the package has, too."""
    try:
        # In a folder like /tmp everybody can put files.
        if not inside and stat.S_IMODE(source.stat().st_mode) & stat.S_IWOTH:
            return
        entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    except OSError:
        return
    if not inside and len(entries) > _MOST_ENTRIES:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        twin = target / entry.name
        if not os.path.lexists(twin):
            if inside and entry.is_dir() and _holds_code(entry.path):
                # A package that is newer than what was deployed; its data may be wanted.
                twin.mkdir(exist_ok=True)
                _link(Path(entry.path), twin, inside=True)
            elif not inside or not entry.name.endswith(_CODE):
                with contextlib.suppress(FileExistsError):
                    twin.symlink_to(os.path.abspath(entry.path))  # noqa: PTH100  (it may be a link that changes)
        elif inside and entry.is_dir() and twin.is_dir() and not twin.is_symlink():
            _link(Path(entry.path), twin, inside=True)
