"""Byte code of installed modules for the same modules of a code package."""

from __future__ import annotations

import importlib
import marshal
import os
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path

import pytest

from airflow_provider_metaflow.compute.local.bytecode import reuse_bytecode

SOURCE = "where = 'source'\n"
FROM_BYTECODE = marshal.dumps(compile("where = 'byte code'\n", "installed", "exec"))
NAME = "reused_package"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of an installed package."""
    module = tmp_path / "installed" / NAME / "module.py"
    module.parent.mkdir(parents=True)
    (module.parent / "__init__.py").touch()
    module.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    importlib.invalidate_caches()
    return module


def compiled(module: Path, mtime: int | None = None, *, by_hash: str = "", magic: bytes = MAGIC_NUMBER) -> None:
    """Write byte code that can be told from what Python would make of the source."""
    text = module.read_bytes()
    seconds = int(module.stat().st_mtime) if mtime is None else mtime
    head = bytes(4) + seconds.to_bytes(4, "little") + len(text).to_bytes(4, "little")
    if by_hash:
        head = (0b01).to_bytes(4, "little") + source_hash(by_hash.encode())
    target = Path(cache_from_source(str(module)))
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(magic + head + FROM_BYTECODE)


def where(package: Path, text: str = SOURCE) -> str:
    """Put the module into a code package, and return what an import of it there runs."""
    module = package / NAME / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text(text)
    os.utime(module, (1_600_000_000, 1_600_000_000))
    reuse_bytecode(package)
    found = importlib.machinery.SourceFileLoader("module", str(module)).get_code("module")
    names: dict[str, str] = {}
    assert found is not None
    assert found.co_filename == str(module)
    exec(found, names)
    return names["where"]


def test_the_byte_code_of_the_same_module_is_taken_over(installed: Path, tmp_path: Path) -> None:
    compiled(installed)
    assert where(tmp_path / "package") == "byte code"


def test_byte_code_that_names_the_hash_of_its_source_is_taken_over(installed: Path, tmp_path: Path) -> None:
    compiled(installed, by_hash=SOURCE)
    assert where(tmp_path / "package") == "byte code"


def test_a_module_of_another_release_is_compiled(installed: Path, tmp_path: Path) -> None:
    compiled(installed)
    assert where(tmp_path / "package", SOURCE.replace("source", "SOURCE")) == "SOURCE"


@pytest.mark.parametrize(
    "outdated",
    [
        pytest.param({"mtime": 1}, id="older than the source"),
        pytest.param({"by_hash": "another"}, id="of another source"),
        pytest.param({"magic": b"\0\0\r\n"}, id="of another Python"),
    ],
)
def test_byte_code_that_python_would_not_use_is_left(
    installed: Path, tmp_path: Path, outdated: dict[str, object]
) -> None:
    compiled(installed, **outdated)  # type: ignore[arg-type]
    assert where(tmp_path / "package") == "source"


def test_a_package_that_is_not_installed_is_compiled(tmp_path: Path) -> None:
    assert where(tmp_path / "package") == "source"
