"""Code that somebody has put in place of a deployed package runs nowhere."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.object_store import ObjectStore

from airflow_provider_metaflow.compute.local.code import extract, unpacked
from metaflow_orchestration.compile.reading.container_settings import bootstrap_script
from metaflow_orchestration.containers.command import BOOTSTRAP, TASK_VARIABLE
from metaflow_orchestration.containers.pins import PINS
from metaflow_orchestration.documents.manifest import CodePackage
from metaflow_orchestration.exceptions import StepNotRunnableError


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


# In containers: the command that all targets share.


def stored(store: ObjectStore, name: str, data: bytes) -> str:
    store.client("s3").put_object(Bucket="flows", Key=name, Body=data)
    return f"s3://flows/{name}"


def run_container(
    store: ObjectStore, folder: Path, code: CodePackage, document: str = "", **more: Any
) -> subprocess.CompletedProcess[str]:
    (folder / "at").mkdir(exist_ok=True)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("METAFLOW_", "AIRFLOW", "PYTHON"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "METAFLOW_S3_ENDPOINT_URL": store.url,
        "METAFLOW_CODE_URL": code.url,
        "METAFLOW_CODE_SHA": code.sha,
        "METAFLOW_CODE_DS": "s3",
        TASK_VARIABLE: document,
        **more.pop("environment", {}),
    }
    command = more.pop("command", [sys.executable, "-c", BOOTSTRAP])
    return subprocess.run(command, cwd=folder / "at", env=environment, capture_output=True, text=True)


@pytest.fixture
def in_container(store: ObjectStore, tmp_path: Path) -> tuple[CodePackage, Path]:
    """A package whose code says which task it was given, in an object store; and a file that it writes."""
    code = b"import json\ndef main(task, root):\n    open('../ran', 'w').write(json.dumps(task))\n    return 0\n"
    runner = "metaflow_extensions/airflow_provider_metaflow/plugins/orchestrator/task/container_task.py"
    path = archive(tmp_path / "package", (member(f".mf_code/{runner}"), code))
    data = path.read_bytes()
    sha = hashlib.sha1(data).hexdigest()
    return replace(package(path), url=stored(store, f"data/{sha[:2]}/{sha}", data), datastore="s3"), tmp_path / "at/ran"


def test_a_container_runs_the_package_that_was_deployed_and_the_task_that_it_was_given(
    in_container: tuple[CodePackage, Path], store: ObjectStore, tmp_path: Path
) -> None:
    code, ran = in_container
    text = zlib.compress(b'{"a": 1}')
    sha = hashlib.sha1(text).hexdigest()
    result = run_container(store, tmp_path, code, "@" + stored(store, f"data/{sha[:2]}/{sha}", text))
    assert result.returncode == 0, result.stderr
    assert ran.read_text() == '{"a": 1}'


def test_a_container_runs_nothing_of_a_package_that_was_changed_in_the_object_store(
    in_container: tuple[CodePackage, Path], store: ObjectStore, tmp_path: Path
) -> None:
    code, ran = in_container
    stored(store, code.url.removeprefix("s3://flows/"), archive(tmp_path / "other", (member("x"), b"x")).read_bytes())
    result = run_container(store, tmp_path, code)
    assert result.returncode == 1
    assert "is not what was deployed" in result.stderr
    assert not ran.exists()
    assert not list((tmp_path / "at" / "metaflow").glob("x"))


def test_a_container_runs_no_task_whose_description_was_changed_in_the_object_store(
    in_container: tuple[CodePackage, Path], store: ObjectStore, tmp_path: Path
) -> None:
    code, ran = in_container
    url = stored(store, f"data/aa/{'a' * 40}", zlib.compress(b'{"a": "of somebody else"}'))
    result = run_container(store, tmp_path, code, f"@{url}")
    assert result.returncode == 1
    assert "is not what was deployed" in result.stderr
    assert not ran.exists()


@pytest.mark.parametrize("name", MALICIOUS)
def test_no_member_of_a_package_lands_outside_of_the_containers_folder(
    store: ObjectStore, tmp_path: Path, name: str
) -> None:
    info = copy.copy(MALICIOUS[name])
    info.name = info.name.format(outside=tmp_path / "outside")
    path = archive(tmp_path / "package", (info, b""))
    code = package(path)
    code = replace(code, url=stored(store, f"data/{code.sha}", path.read_bytes()), datastore="s3")
    result = run_container(store, tmp_path, code)
    assert result.returncode != 0
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "at" / "outside").exists()


@pytest.mark.parametrize("changed", [False, True])
def test_metaflows_own_commands_unpack_the_package_that_was_deployed_alone(
    in_container: tuple[CodePackage, Path], store: ObjectStore, tmp_path: Path, changed: bool
) -> None:
    from metaflow.metaflow_environment import MetaflowEnvironment

    code, _ = in_container
    metadata = '{"version": 0, "archive_format": "tgz", "mfcontent_version": 1}'
    commands = MetaflowEnvironment(None).get_package_commands(code.url, "s3", metadata)
    script = bootstrap_script(commands, ["echo 'set up'"])
    if changed:
        other = archive(tmp_path / "other", (member("changed"), b"x")).read_bytes()
        stored(store, code.url.removeprefix("s3://flows/"), other)
    result = run_container(
        store,
        tmp_path,
        code,
        command=["bash", "-c", script],
        environment={"METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1", "METAFLOW_FLOW_NAME": "F"},
    )
    assert ("set up" in result.stdout) is not changed, result.stdout + result.stderr
    assert ("is not what was deployed" in result.stderr) is changed
    assert (tmp_path / "at" / "metaflow" / ".mf_code").exists() is not changed
    assert not (tmp_path / "at" / "metaflow" / "changed").exists()


@pytest.mark.parametrize("have", [pytest.param("nothing", marks=pytest.mark.extended), "requests"])
def test_what_a_container_installs_is_pinned_to_the_content_of_the_files(
    store: ObjectStore, tmp_path: Path, in_container: tuple[CodePackage, Path], have: str
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    # An index whose files are not those that their names promise.
    home = tmp_path / "index"
    for _, _, module, wanted, _ in PINS:
        name, _, version = wanted.partition("==")
        _write_wheel(home / name, name.replace("-", "_"), version, module)
    if have == "requests":
        site = next((tmp_path / "venv" / "lib").glob("python3*")) / "site-packages"
        (site / "requests.py").write_text("")
    links = " ".join(map(str, home.iterdir()))
    result = run_container(
        store,
        tmp_path,
        in_container[0],
        command=[str(python), "-c", BOOTSTRAP],
        environment={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "PIP_CONFIG_FILE": "/dev/null"},
    )
    assert result.returncode == 1
    assert "DO NOT MATCH THE HASHES" in result.stderr
    expected = "boto3 could" if have == "requests" else "boto3 and requests could"
    assert result.stderr.strip().splitlines()[-1].startswith(f"{expected} not be installed")
    assert not in_container[1].exists()


def _write_wheel(folder: Path, name: str, version: str, module: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", "raise SystemExit('code of somebody else')")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
