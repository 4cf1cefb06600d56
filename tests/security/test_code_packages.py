"""Code that somebody has put in place of a deployed package runs nowhere."""

from __future__ import annotations

import copy
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from airflow_provider_metaflow.compute.code import extract, unpacked
from airflow_provider_metaflow.exceptions import StepNotRunnableError
from airflow_provider_metaflow.flow.manifest import CodePackage


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6777
    return info


def package(path: Path, sha: str | None = None) -> CodePackage:
    return CodePackage(
        url=str(path),
        sha=sha or hashlib.sha1(path.read_bytes()).hexdigest(),
        metadata="{}",
        datastore="local",
        flow_file="flow.py",
        flow_dir="/none",
    )


def test_a_code_package_that_was_changed_in_the_datastore_is_not_unpacked(tmp_path: Path) -> None:
    good = archive(tmp_path / "package", (member("flow.py"), b"print('deployed')"))
    deployed = package(good)
    archive(good, (member("flow.py"), b"print('somebody else')"))
    with pytest.raises(StepNotRunnableError, match=r"is not the one that was deployed: .*None of it was run"):
        with unpacked(deployed, tmp_path / "cache", str(tmp_path)):
            pytest.fail("it was used")
    assert not [path for path in (tmp_path / "cache" / "code").iterdir() if path.suffix != ".lock"]
    with unpacked(replace(deployed, sha=package(good).sha), tmp_path / "cache", str(tmp_path)) as code:
        assert (code / "flow.py").read_text() == "print('somebody else')"


FILTERS = [True, False] if hasattr(tarfile, "data_filter") else [False]
"""Late patch releases of Python 3.10 and 3.11 brought them."""

MALICIOUS = {
    "a path above the folder": member("../outside"),
    "an absolute path": member("{outside}"),
    "a link out of the folder": member("link", tarfile.SYMTYPE, "../outside"),
    "a hard link out of the folder": member("link", tarfile.LNKTYPE, "../outside"),
    "a device": member("device", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("filters", FILTERS, ids=lambda one: "with filters" if one else "a Python without filters")
@pytest.mark.parametrize("name", MALICIOUS)
def test_no_member_of_a_package_lands_outside_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, filters: bool
) -> None:
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    info = copy.copy(MALICIOUS[name])
    info.name = info.name.format(outside=tmp_path / "outside")
    path = archive(tmp_path / "package", (member("flow.py"), b"pass"), (info, b""))
    (tmp_path / "content").mkdir()
    if name == "an absolute path" and filters:
        # The filter strips the leading slash.
        extract(path, tmp_path / "content")
    else:
        with pytest.raises(tarfile.TarError):
            extract(path, tmp_path / "content")
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "content" / "link").exists()
    assert not (tmp_path / "content" / "device").exists()


@pytest.mark.parametrize("filters", FILTERS, ids=lambda one: "with filters" if one else "a Python without filters")
def test_files_of_a_package_are_those_of_this_user_and_give_nobody_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: bool
) -> None:
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    info = member("flow.py")
    info.uid, info.uname = 12345, "nobody"
    path = archive(tmp_path / "package", (info, b"pass"))
    (tmp_path / "content").mkdir()
    extract(path, tmp_path / "content")
    state = (tmp_path / "content" / "flow.py").stat()
    assert state.st_uid != 12345
    assert not state.st_mode & 0o7022
