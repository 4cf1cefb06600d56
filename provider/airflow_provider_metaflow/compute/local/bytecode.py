"""Byte code for an unpacked Metaflow, from the installed one: a worker with an empty cache need not make it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, cache_from_source, find_spec, source_hash
from pathlib import Path

_HEADER = 16
"""Bytes before the code: magic number, flags, then time and size of the source, or its hash (PEP 552)."""


def reuse_bytecode(folder: Path) -> None:
    """Give each module of a folder the byte code of the installed module whose source is the same, byte for byte.

    Python would compile them with the first import, which takes longer than the import itself: in a worker pod of the
    KubernetesExecutor that is before each task. Only this interpreter finds the result; others compile as ever.

    :param folder: with top-level packages, e.g. ``.mf_code`` of a code package.
    """
    for package in folder.iterdir():
        for installed in _installed(package.name):
            for source in package.rglob("*.py"):
                # A file that cannot be read or written: Python compiles the module, as it would have.
                with suppress(OSError):
                    _reuse(source, installed / source.relative_to(package))


def _installed(package: str) -> Iterator[Path]:
    """Yield the folders of a package, of which a namespace package has several; nothing is imported."""
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return
    yield from map(Path, found.submodule_search_locations or () if found else ())


def _reuse(source: Path, installed: Path) -> None:
    text = source.read_bytes()
    if installed.read_bytes() != text:
        return
    compiled = Path(cache_from_source(str(installed))).read_bytes()
    if not _is_of(compiled, text, int(installed.stat().st_mtime)):
        return
    target = Path(cache_from_source(str(source)))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_header(text, int(source.stat().st_mtime)) + compiled[_HEADER:])


def _is_of(compiled: bytes, text: bytes, mtime: int) -> bool:
    head = compiled[:_HEADER]
    if head == _header(text, mtime):
        return True
    flags = (b"\x01\0\0\0", b"\x03\0\0\0")
    return head.startswith(MAGIC_NUMBER) and head[4:8] in flags and head[8:] == source_hash(text)


def _header(text: bytes, mtime: int) -> bytes:
    parts = (mtime & 0xFFFFFFFF, len(text) & 0xFFFFFFFF)
    return MAGIC_NUMBER + bytes(4) + b"".join(part.to_bytes(4, "little") for part in parts)
