"""A folder of flows in Airflow's DAG processor: a parse ends in time, and no DAG that was there is missing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from tests.support.patience import wait_until

from airflow_provider_metaflow import load_flow_dags
from airflow_provider_metaflow.dag import loader
from airflow_provider_metaflow.dag.loader import BrokenFlowDag
from metaflow_orchestration.compile.background import client as background

pytestmark = pytest.mark.subprocess

HANGS = "import time; time.sleep(300)\nfrom metaflow import"


@pytest.fixture
def folder(tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a flow, a cache and a datastore of its own, and half a second for a parse to compile."""
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__METAFLOW__CACHE_FOLDER", str(tmp_path / "cache"))
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "1")
    monkeypatch.setattr(loader, "parsed_by_the_dag_processor", lambda: "a DAG file")
    started: list[subprocess.Popen[bytes]] = []
    start = background._start

    def kept(*arguments: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(background, "_start", kept)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/linear.py").write_text((flows / "linear.py").read_text())
    yield tmp_path / "flows"
    for process in started:
        process.kill()
        process.wait()


def parse(folder: Path) -> dict[str, DAG]:
    """Parse the folder once; return its DAGs by the file of the flow."""
    dags = load_flow_dags({}, folder)
    names = sorted(path.name for path in folder.glob("*.py"))
    return dict(zip(names, dags, strict=True))


def error_of(dag: DAG) -> str:
    """Return the error by which Airflow's DAG processor shows a DAG; empty for one that it takes."""
    try:
        DagSerialization.to_dict(dag)
    except Exception as error:
        return str(error)
    return ""


def test_a_flow_that_takes_long_to_compile_is_one_import_error_and_hides_no_other(folder: Path, flows: Path) -> None:
    """All DAGs of the file were gone when their compiles took longer than Airflow's import timeout."""
    (folder / "slow.py").write_text((flows / "static_split.py").read_text().replace("from metaflow import", HANGS))
    wait_until(lambda: parse(folder)["linear.py"].dag_id == "LinearFlow", timeout=60, pause=0.2)
    waiting = parse(folder)["slow.py"]
    assert isinstance(waiting, BrokenFlowDag)
    assert "flow slow.py: it is being compiled" in error_of(waiting)


def test_a_dag_stays_what_it_was_while_its_changed_flow_is_compiled(folder: Path) -> None:
    """It was gone until a later parse found it, and Airflow marked it as stale meanwhile."""
    wait_until(lambda: parse(folder)["linear.py"].dag_id == "LinearFlow", timeout=60, pause=0.2)
    flow = folder / "linear.py"
    flow.write_text(flow.read_text().replace("from metaflow import", HANGS))
    found = parse(folder)["linear.py"]
    assert (found.dag_id, error_of(found)) == ("LinearFlow", "")


def test_an_edit_compiles_one_flow_of_the_folder_and_a_failure_is_its_own(folder: Path, flows: Path) -> None:
    (folder / "split.py").write_text((flows / "static_split.py").read_text())
    wait_until(lambda: {dag.dag_id for dag in parse(folder).values()} == {"LinearFlow", "StaticSplitFlow"}, pause=0.2)
    before = sorted((folder.parent / "cache/manifests").glob("linear-*.json"))
    (folder / "split.py").write_text(f"raise ValueError('on purpose')\n{(folder / 'split.py').read_text()}")
    wait_until(lambda: "on purpose" in error_of(parse(folder)["split.py"]), pause=0.2)
    assert parse(folder)["linear.py"].dag_id == "LinearFlow"
    assert sorted((folder.parent / "cache/manifests").glob("linear-*.json")) == before


def test_a_compiler_that_cannot_start_is_an_error_of_each_flow_that_waits_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "60")
    monkeypatch.setattr(background, "_SERVER", "no_such_module")
    assert "ended with status 1: " in error_of(parse(folder)["linear.py"])
    monkeypatch.undo()


def test_nobody_waits_at_each_parse_for_a_flow_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = folder / "linear.py"
    flow.write_text(flow.read_text().replace("from metaflow import", HANGS))
    parse(folder)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(background, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    wait_until(lambda: waits.clear() or (parse(folder) and not waits), pause=0.2)
    assert "it is being compiled" in error_of(parse(folder)["linear.py"])
