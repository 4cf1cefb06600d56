"""The command `metaflow-airflow`, as a platform engineer runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from airflow_provider_metaflow.console.main import main
from airflow_provider_metaflow.deploy.dag_file import write
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest, read_manifest

Compiled = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def no_airflow_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAFLOW_AIRFLOW_URL", raising=False)


def run(*arguments: Any, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code == status, result.output + repr(result.exception)
    return " ".join(result.output.split())


@pytest.mark.subprocess
def test_compile_writes_a_manifest(flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    target = tmp_path / "out.metaflow.json"
    told = run("compile", flows / "linear.py", "-o", target, "--name", "other", "--", "--tag", "t")
    assert told == f"LinearFlow: 3 steps, written to {target}"
    deployment = read_manifest(target).deployment
    assert (deployment.name, deployment.tags) == ("other", ("t",))


@pytest.mark.subprocess
def test_compile_of_a_dags_folder_fills_the_cache_and_names_what_does_not_compile(
    flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__METAFLOW__CACHE_FOLDER", str(tmp_path / "cache"))
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "30")
    folder = tmp_path / "dags"
    (folder / "flows").mkdir(parents=True)
    (folder / "all.py").write_text(
        'from airflow_provider_metaflow import load_flow_dags\nload_flow_dags(globals(), "flows")\n'
    )
    (folder / "flows/linear.py").write_text((flows / "linear.py").read_text())
    (folder / ".airflowignore").write_text("flows/")
    assert "LinearFlow a DAG of 3 tasks" in run("compile", folder).replace("│", "").replace("  ", " ")
    assert list((tmp_path / "cache/manifests").glob("linear-*.json"))
    (folder / "flows/broken.py").write_text(f"raise ValueError('on purpose')\n{(flows / 'switch.py').read_text()}")
    assert "on purpose" in run("compile", folder, status=1)


@pytest.mark.subprocess
def test_show_draws_the_graph_of_a_manifest_and_of_a_flow_file(
    compiled: Compiled, flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.metaflow.json"
    path.write_bytes(encode_manifest(compiled("nested_foreach")))
    told = run("show", path)
    assert "NestedForeachFlow deployed as NestedForeachFlow by tester" in told
    assert "for each of" in told
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    assert "long → " in run("show", flows / "switch.py")


def test_validate_finds_what_is_wrong_in_a_dags_folder(compiled: Compiled, tmp_path: Path) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    list(write(folder / "LinearFlow.py", compiled("linear", "--worker-pool", "ml")))
    assert "a DAG of 3 tasks" in run("validate", folder)
    (folder / "cut.metaflow.json").write_bytes(encode_manifest(compiled("linear"))[:200])
    (folder / "bad.py").write_text("from airflow.sdk import DAG\nraise ValueError('no luck')\n")
    told = run("validate", folder, status=1)
    assert "cut short" in told
    assert "no luck" in told
    # The pool is named, and that nobody could look for it.
    assert "1 pools and connections could not be looked for: METAFLOW_AIRFLOW_URL is not set" in told


def test_validate_tells_of_a_code_package_that_is_gone(compiled: Compiled, tmp_path: Path) -> None:
    from msgspec.structs import replace

    manifest = compiled("linear")
    lost = replace(manifest, code=replace(manifest.code, url=str(tmp_path / "nowhere")))
    (tmp_path / "f.metaflow.json").write_bytes(encode_manifest(lost))
    assert "is gone" in run("validate", tmp_path, status=1)


def test_pools_lists_and_writes_what_flows_ask_for(compiled: Compiled, tmp_path: Path) -> None:
    (tmp_path / "a.metaflow.json").write_bytes(encode_manifest(compiled("linear", "--worker-pool", "ml")))
    (tmp_path / "b.metaflow.json").write_bytes(encode_manifest(compiled("foreach")))
    target = tmp_path / "pools.json"
    assert "ml: LinearFlow" in run("pools", tmp_path, "-o", target, "--slots", "4")
    assert json.loads(target.read_text())["ml"]["slots"] == 4
    assert "METAFLOW_AIRFLOW_URL is not set" in run("pools", tmp_path, "--create", status=1)


def test_doctor_names_what_is_missing_and_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("doctor")
    assert "is registered" in told
    assert "METAFLOW_AIRFLOW_URL is not set" in told
    monkeypatch.setenv("AIRFLOW__METAFLOW__PYTHON", "/no-python")
    monkeypatch.setenv("METAFLOW_AIRFLOW_URL", "http://127.0.0.1:9")
    told = run("doctor", status=1)
    assert "no-python is no program" in told
    assert "cannot be reached" in told


def test_an_error_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "x.metaflow.json").write_text("{}")
    assert run("show", tmp_path / "x.metaflow.json", status=1).startswith("Error: manifest")


def test_it_is_installed_as_a_command() -> None:
    assert (Path(sys.executable).parent / "metaflow-airflow").exists()
