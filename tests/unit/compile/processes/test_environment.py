"""The environment that flows are compiled in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from metaflow_orchestration.compile.cache.keys import Surroundings, cache_key, shared_key
from metaflow_orchestration.compile.options import CompileOptions
from metaflow_orchestration.compile.processes.environment import (
    TEMPORARY_FOLDERS,
    child_environment,
    temporary_folders,
    user_name,
)


@pytest.mark.parametrize("name", TEMPORARY_FOLDERS)
def test_metaflow_makes_its_temporary_files_where_anybody_may(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a DAG folder that is mounted to be read only, no token and no manifest was found in S3."""
    monkeypatch.delenv(name, raising=False)
    assert child_environment()[name] == tempfile.gettempdir()
    monkeypatch.setenv(name, "/scratch")
    assert child_environment()[name] == "/scratch"


def test_a_folder_of_metaflows_configuration_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable would win over the file."""
    for name in TEMPORARY_FOLDERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("METAFLOW_PROFILE", "large")
    (tmp_path / "config_large.json").write_text('{"METAFLOW_ARTIFACT_LOCALROOT": "/large"}')
    assert {*TEMPORARY_FOLDERS} & {*child_environment()} == {"METAFLOW_TEMPDIR"}
    # Of the process that is started, which may have another profile than this one.
    assert {*temporary_folders({"METAFLOW_HOME": str(tmp_path)})} == {*TEMPORARY_FOLDERS}
    monkeypatch.setenv("METAFLOW_PROFILE", "broken")
    (tmp_path / "config_broken.json").write_text("no JSON")
    assert {*TEMPORARY_FOLDERS} <= {*child_environment()}


def test_a_container_without_a_place_for_temporary_files_reads_what_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    for name in TEMPORARY_FOLDERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert not {*TEMPORARY_FOLDERS} & {*child_environment()}


def test_where_temporary_files_are_made_is_part_of_no_key(
    tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = tmp_path / "flow.py"
    shutil.copy(flows / "linear.py", flow)
    keys = set()
    for folder in ("/one", "/other"):
        for name in TEMPORARY_FOLDERS:
            monkeypatch.setenv(name, folder)
        options = CompileOptions(python="python")
        now = Surroundings.now()
        keys.add((cache_key(flow, options, now), shared_key(flow, options, now)))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"METAFLOW_USER": "ann", "USER": "bob"}, "ann"),
        ({"USER": "bob"}, "bob"),
        ({}, "airflow"),
        pytest.param({"USER": "root"}, "airflow", id="a log-in as root, which Metaflow refuses"),
        pytest.param({"METAFLOW_USER": "root", "USER": "bob"}, "bob", id="root before another name"),
    ],
)
def test_metaflow_is_told_of_a_user_whom_it_accepts(environment: dict[str, str], found: str) -> None:
    assert user_name(environment) == found


def test_a_flow_is_compiled_by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAFLOW_USER", raising=False)
    monkeypatch.setenv("USER", "root")
    assert child_environment()["METAFLOW_USER"] == "airflow"
