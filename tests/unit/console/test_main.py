"""The command `metaflow-airflow`, as a platform engineer runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from metaflow._vendor.packaging.requirements import Requirement
from tests.harness.measured import tomllib
from tests.support.airflow_api import airflow_api

from airflow_provider_metaflow.console import doctor, installed
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


def document(*arguments: Any, status: int = 0) -> Any:
    """Return what is printed with `--json`, which is all that a program reads."""
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code == status, result.output + repr(result.exception)
    return json.loads(result.stdout)


@pytest.mark.subprocess
def test_compile_writes_a_manifest(flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    target = tmp_path / "out.metaflow.json"
    told = run("compile", flows / "linear.py", "-o", target, "--name", "other", "--", "--tag", "t")
    assert told == f"LinearFlow: 3 steps, written to {target}"
    deployment = read_manifest(target).deployment
    assert (deployment.name, deployment.tags) == ("other", ("t",))
    run("compile", flows / "linear.py", "-o", target, "--project-root", flows.parent)
    assert read_manifest(target).code.flow_file == f"{flows.name}/linear.py"


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
    assert "no luck" in run("validate", folder, status=1)
    # As JSON, since a table breaks lines where its columns end.
    texts = [one["text"] for one in document("validate", folder, "--json", status=1)["findings"]]
    assert any("cut short" in text for text in texts)
    # The pool is named, and that nobody could look for it.
    assert "1 pools and connections could not be looked for: METAFLOW_AIRFLOW_URL is not set." in texts


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
    assert "│ ml │ LinearFlow │" in run("pools", tmp_path, "-o", target, "--slots", "4")
    assert json.loads(target.read_text())["ml"]["slots"] == 4
    assert "METAFLOW_AIRFLOW_URL is not set" in run("pools", tmp_path, "--create", status=1)


def test_pools_that_are_missing_are_created(
    compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.metaflow.json").write_bytes(encode_manifest(compiled("linear", "--worker-pool", "ml")))
    with airflow_api() as api:
        monkeypatch.setenv("METAFLOW_AIRFLOW_URL", api.url)
        assert "│ created │" in run("pools", tmp_path, "--create", "--slots", "4")
        assert api.pools["ml"]["slots"] == 4
        assert "│ exists │" in run("pools", tmp_path, "--create")


def test_every_verb_prints_json(compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    path = tmp_path / "LinearFlow.metaflow.json"
    path.write_bytes(encode_manifest(compiled("linear", "--worker-pool", "ml")))
    shown = document("show", path, "--json")
    assert (shown["flow"], [one["name"] for one in shown["steps"]]) == ("LinearFlow", ["start", "middle", "end"])
    assert shown["steps"][0] == {
        "name": "start", "kind": "linear", "next": ["middle"], "splits": [], "foreach": None, "decorators": [],
    }  # fmt: skip
    found = document("pools", tmp_path, "--json")
    assert found["pools"] == [{"pool": "ml", "deployments": ["LinearFlow"]}]
    found = document("validate", tmp_path, "--json")
    assert (found["errors"], found["folder"]) == (0, str(tmp_path))
    assert {"subject", "state", "text", "fix"} == set(found["findings"][0])
    path.write_bytes(path.read_bytes()[:200])
    assert document("validate", tmp_path, "--json", status=1)["errors"] == 1
    found = document("doctor", "--json")
    assert (found["errors"], found["python"]) == (0, sys.executable)
    # None is left out.
    without = {name for name, one in main.commands.items() if not any("--json" in option.opts for option in one.params)}
    assert without == {"completion"}


@pytest.mark.subprocess
def test_compile_prints_json(flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    target = tmp_path / "out.metaflow.json"
    assert document("compile", flows / "linear.py", "-o", target, "--json") == {
        "flow": "LinearFlow", "deployment": "LinearFlow", "steps": 3, "manifest": str(target),
    }  # fmt: skip


@pytest.mark.subprocess
@pytest.mark.parametrize(("shell", "line"), [("bash", "complete -o nosort -F"), ("zsh", "#compdef metaflow-airflow")])
def test_the_completion_of_a_shell_is_printed(shell: str, line: str) -> None:
    assert line in run("completion", shell)
    completed = CliRunner().invoke(
        main, [], prog_name="metaflow-airflow", complete_var="_METAFLOW_AIRFLOW_COMPLETE",
        env={"_METAFLOW_AIRFLOW_COMPLETE": f"{shell}_complete", "COMP_WORDS": "metaflow-airflow v", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert "validate" in completed.output


def test_doctor_knows_every_extra_of_the_package() -> None:
    with Path(installed.__file__).parents[3].joinpath("pyproject.toml").open("rb") as file:
        assert set(installed.USES) == set(tomllib.load(file)["project"]["optional-dependencies"])
    told = document("doctor", "--json")
    assert {f"extra {name}" for name in installed.extras()} <= {one["subject"] for one in told["findings"]}


def test_doctor_tells_what_is_absent_from_what_is_too_old_and_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"hera": "6.0", "kubernetes": "35.0", "boto3": None, "cloudpathlib": None}
    true = installed.installed_version
    monkeypatch.setattr(installed, "installed_version", lambda name: versions.get(name, true(name)))
    monkeypatch.setattr(
        installed, "_requirements", lambda _, extra: map(Requirement, {
            "argo": ["hera>=7,<8", "kubernetes>=29"], "step-functions": ["boto3>=1.34"], "s3": ["cloudpathlib[s3]"],
            "gcs": ["cloudpathlib[gs]"], None: ["metaflow>=99"],
        }.get(extra, []))
    )  # fmt: skip
    monkeypatch.setattr(doctor, "extras", lambda: ["argo", "gcs", "kubernetes", "s3", "step-functions"])
    monkeypatch.setenv("METAFLOW_AIRFLOW_DAGS_FOLDER", "s3://bucket/dags")
    told = document("doctor", "--json", status=1)
    states = {one["subject"]: (one["state"], one["text"]) for one in told["findings"]}
    assert states["extra argo"] == ("warning", "hera<8,>=7 is required, 6.0 is installed")
    assert states["extra step-functions"][0] == "none"
    assert states["extra gcs"][0] == "none"
    assert states["extra kubernetes"][0] == "ok"
    assert states["extra s3"] == ("error", "not installed, but METAFLOW_AIRFLOW_DAGS_FOLDER is s3://bucket/dags")
    assert states["Requirement"][0] == "error"
    assert states["Airflow API"][0] == "warning"
    assert (told["errors"], told["warnings"]) == (2, sum(state == "warning" for state, _ in states.values()))
    assert "2 errors, " in run("doctor", status=1)


def test_doctor_names_what_is_missing_and_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("doctor")
    assert "is registered" in told
    assert "METAFLOW_AIRFLOW_URL is not set" in told
    monkeypatch.setenv("AIRFLOW__METAFLOW__PYTHON", "/no-python")
    monkeypatch.setenv("METAFLOW_AIRFLOW_URL", "http://127.0.0.1:9")
    told = run("doctor", status=1)
    assert "no-python is not a program" in told
    assert "cannot be reached" in told


def test_an_error_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "x.metaflow.json").write_text("{}")
    assert run("show", tmp_path / "x.metaflow.json", status=1).startswith("Error: manifest")


def test_it_is_installed_as_a_command() -> None:
    assert (Path(sys.executable).parent / "metaflow-airflow").exists()
