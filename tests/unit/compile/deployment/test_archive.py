"""A code package holds what Metaflow's own would, whichever process has made it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import metaflow
import pytest
from metaflow.packaging_sys import ContentType
from metaflow.packaging_sys.backend import PackagingBackend
from metaflow.packaging_sys.tar_backend import TarPackagingBackend
from metaflow.packaging_sys.v1 import MetaflowCodeContentV1

from metaflow_orchestration.compile.deployment import archive

OF_METAFLOW = [f"{Path(metaflow.__file__).parent}/{name}" for name in ("__init__.py", "flowspec.py")]


@pytest.fixture
def user_file(tmp_path: Path) -> str:
    (tmp_path / "flow.py").write_text("print('a flow')\n")
    return str(tmp_path / "flow.py")


@pytest.fixture(autouse=True)
def _nothing_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive._compressed.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def packed(backend: type[Any], user_file: str) -> bytes:
    made = backend().create()
    for path in OF_METAFLOW:
        made.add_file(path, f"code/{Path(path).name}")
    made.add_file(user_file, "flow.py")
    made.add_data(io.BytesIO(b"{}"), "INFO")
    # Where it would be in the way of the first member.
    made.add_file(OF_METAFLOW[1], "late.py")
    made.close()
    return bytes(made.get_blob())


def members(blob: bytes) -> list[tuple[str, int, int, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as opened:
        return [(one.name, one.mode, int(one.mtime), opened.extractfile(one).read()) for one in opened]  # type: ignore[union-attr]


def test_an_archive_has_the_members_of_metaflows_own(user_file: str) -> None:
    ours = members(packed(archive.PackageArchive, user_file))
    assert ours == members(packed(TarPackagingBackend, user_file))
    assert [name for name, *_ in ours] == ["code/__init__.py", "code/flowspec.py", "flow.py", "INFO", "late.py"]


@pytest.mark.subprocess
def test_tar_extracts_it_as_a_task_does(user_file: str, tmp_path: Path) -> None:
    (tmp_path / "job.tar").write_bytes(packed(archive.PackageArchive, user_file))
    target = tmp_path / "extracted"
    target.mkdir()
    (command,) = PackagingBackend.get_backend("tgz").get_extract_commands(str(tmp_path / "job.tar"), str(target))
    subprocess.run(["sh", "-c", command], check=True)
    assert (target / "flow.py").read_text() == "print('a flow')\n"
    assert (target / "code/flowspec.py").read_bytes() == Path(OF_METAFLOW[1]).read_bytes()


def test_a_task_reads_it_as_an_archive_of_metaflows_type() -> None:
    assert archive.PackageArchive.backend_type() == "tgz"
    assert PackagingBackend.get_backend("tgz") is TarPackagingBackend


def test_a_process_that_has_compressed_metaflow_before_makes_the_same_bytes(user_file: str) -> None:
    first = packed(archive.PackageArchive, user_file)
    assert packed(archive.PackageArchive, user_file) == first
    assert archive._compressed.cache_info().hits == 1


def test_the_next_process_makes_the_same_bytes_of_what_it_finds(
    user_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packed(archive.PackageArchive, user_file)
    archive._compressed.cache_clear()
    monkeypatch.delattr(archive, "_compress")
    assert packed(archive.PackageArchive, user_file) == first


def test_a_file_of_metaflow_that_has_changed_is_compressed_again(
    tmp_path: Path, user_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_METAFLOW", f"{tmp_path}/metaflow/")
    file = tmp_path / "metaflow/one.py"
    file.parent.mkdir()
    for text in ("first", "and second"):
        file.write_text(text)
        made = archive.PackageArchive().create()
        made.add_file(str(file), "one.py")
        assert members(bytes(made.get_blob())) == [("one.py", 0o644, 1575360000, text.encode())]


@pytest.mark.subprocess
def test_metaflows_own_files_are_compressed_before_the_first_package() -> None:
    archive.prepare()
    made = archive.PackageArchive().create()
    for path, name in MetaflowCodeContentV1(criteria=lambda _: False).content_names(ContentType.CODE_CONTENT.value):
        made.add_file(path, name)
    assert any(name.endswith("metaflow/flowspec.py") for name, *_ in members(bytes(made.get_blob())))
    found = archive._compressed.cache_info()
    assert (found.hits, found.misses) == (1, 1)
