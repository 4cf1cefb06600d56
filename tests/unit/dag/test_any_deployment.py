"""Airflow deployed in any way: the same flow makes the same serialized DAG, from zipped files and without a home."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_metaflow import MetaflowDag, load_flow_dags
from airflow_provider_metaflow.dag import loader
from airflow_provider_metaflow.dag.location import runs_a_task

pytestmark = pytest.mark.subprocess

DAG_FILE = """from airflow_provider_metaflow import load_flow_dags
load_flow_dags(globals(), "flows/")
"""


@pytest.fixture
def folder(tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__METAFLOW__CACHE_FOLDER", str(tmp_path / "cache"))
    (tmp_path / "dags/flows").mkdir(parents=True)
    shutil.copy(flows / "linear.py", tmp_path / "dags/flows")
    (tmp_path / "dags/team.py").write_text(DAG_FILE)
    return tmp_path / "dags"


def serialized(dag: DAG) -> str:
    """Return what Airflow keeps of a DAG, without what it says itself of the DAG's file."""
    data: dict[str, Any] = DagSerialization.to_dict(dag)
    for name in ("fileloc", "relative_fileloc", "_processor_dags_folder"):
        data["dag"].pop(name, None)
    return json.dumps(data, sort_keys=True)


@pytest.mark.extended
def test_the_same_flow_makes_the_same_serialized_dag_with_any_cache_and_at_any_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each deployment to a time-stamped path made a new version of each DAG."""
    first = serialized(MetaflowDag(folder / "flows/linear.py"))
    assert str(folder) not in first
    monkeypatch.setenv("AIRFLOW__METAFLOW__CACHE_FOLDER", str(folder.parent / "other_cache"))
    shutil.rmtree(folder.parent / "store/.metaflow/mf.airflow_manifests")
    assert serialized(MetaflowDag(folder / "flows/linear.py")) == first
    shutil.copytree(folder, folder.parent / "2026-01-02")
    shutil.rmtree(folder.parent / "store/.metaflow/mf.airflow_manifests")
    assert serialized(MetaflowDag(folder.parent / "2026-01-02/flows/linear.py")) == first


def test_flows_in_a_zipped_dag_file_are_dags(folder: Path) -> None:
    archive = folder.parent / "zipped/team.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as content:
        content.write(folder / "team.py", "team.py")
        content.write(folder / "flows/linear.py", "flows/linear.py")
    bag = DagBag(str(archive.parent))
    assert bag.import_errors == {}
    assert list(bag.dags) == ["LinearFlow"]
    assert serialized(bag.dags["LinearFlow"]) == serialized(MetaflowDag(folder / "flows/linear.py"))


@pytest.mark.extended
def test_a_container_without_a_home_compiles_flows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAFLOW_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/1/nohome")
    assert MetaflowDag(folder / "flows/linear.py").dag_id == "LinearFlow"


def test_a_worker_knows_that_it_reads_the_dag_file_for_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not runs_a_task()
    source = "def parse(function):\n    return function()\n"
    namespace: dict[str, Any] = {"__name__": task_runner.__name__}
    exec(compile(source, task_runner.__file__, "exec"), namespace)
    assert namespace["parse"](runs_a_task)


def test_a_fresh_pod_takes_the_flow_of_its_task_and_no_other_of_the_folder(
    folder: Path, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow ends the parse of a task, too, when it takes too long: 200 flows would."""
    shutil.copy(flows / "static_split.py", folder / "flows")
    monkeypatch.setattr(loader, "dag_of_task", lambda: "LinearFlow")
    assert [dag.dag_id for dag in load_flow_dags({}, folder / "flows")] == ["LinearFlow"]
    # A DAG that is called after no flow is found all the same, and what is in the cache is there.
    monkeypatch.setattr(loader, "dag_of_task", lambda: "other")
    assert len(load_flow_dags({}, folder / "flows")) == 2
    monkeypatch.setattr(loader, "dag_of_task", lambda: "LinearFlow")
    assert len(load_flow_dags({}, folder / "flows")) == 2
