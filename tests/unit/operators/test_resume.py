"""Resumed runs with Metaflow's own processes: which parameters their steps see, and what their clones keep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES
from tests.support.environment import environment_variable
from tests.support.task_runs import FlowRun

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.flow.compiler import CompileOptions, load_manifest
from airflow_provider_metaflow.flow.manifest import Manifest, encode_manifest
from airflow_provider_metaflow.graph.identity import airflow_run_id

pytestmark = pytest.mark.subprocess

FLOWS = Path(__file__).parents[2] / "flows"
STEPS = ("start", "body", "collect", "end")
LOCAL = next(one for one in DATASTORES if one.TYPE == "local")


class Deployed:
    """A flow that is deployed to a folder; each of its runs is driven by the test."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root, self.count = root, 0
        self.deploy(source.read_text())

    def deploy(self, text: str) -> None:
        folder = self.root / f"flow-{self.count}"
        folder.mkdir()
        (folder / "resumed.py").write_text(text)
        with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(self.root)):
            options = CompileOptions(python=sys.executable)
            self.manifest: Manifest = load_manifest(folder / "resumed.py", options, self.root / "cache")
        path = self.root / f"resumed-{self.count}.metaflow.json"
        path.write_bytes(encode_manifest(self.manifest))
        self.dag = MetaflowDag(path)
        self.count += 1

    def start(self, **conf: Any) -> FlowRun:
        self.count += 1
        return FlowRun(self.dag, conf=conf, dag_run_id=f"manual__{self.count}")

    def resume(self, origin: FlowRun | str, step: str | None = None, **given: Any) -> FlowRun:
        run_id = origin if isinstance(origin, str) else self.run_id(origin)
        return self.start(**given, metaflow_resume={"origin": run_id, "step": step})

    def run_id(self, run: FlowRun) -> str:
        return airflow_run_id(run.dag.dag_id, run.dag_run_id)

    def artifact(self, run: FlowRun | str, step: str, name: str, task: str = "t") -> Any:
        run_id = run if isinstance(run, str) else self.run_id(run)
        store = FlowDataStore("ResumedFlow", None, storage_impl=LOCAL, ds_root=str(self.root / ".metaflow"))
        return store.get_task_datastore(run_id, step, task)[name]


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path, FLOWS / "resumed.py")


def test_a_parameter_given_to_a_resume_wins_in_each_step_that_runs_again(deployed: Deployed) -> None:
    """The steps behind a clone saw the parameters of the other run."""
    first = deployed.start(alpha=2, unlucky=True, untouched="mine")
    first.run_all("start")
    assert [first.run("body", 0), first.run("body", 1)] == ["success", "failed"]
    again = deployed.resume(first, alpha=5, unlucky=False)
    again.run_all(*STEPS)
    assert deployed.artifact(again, "_parameters", "alpha", "t-params") == 5
    # What was finished stays what it was.
    assert (deployed.artifact(again, "start", "of_start"), deployed.artifact(again, "start", "alpha")) == (2, 2)
    assert deployed.artifact(again, "collect", "bodies") == [(2, 10), (5, 20)]
    assert deployed.artifact(again, "collect", "of_collect") == 5
    assert deployed.artifact(again, "collect", "through_inputs") == [5, 5]
    assert deployed.artifact(again, "collect", "alpha") == 5
    assert deployed.artifact(again, "end", "of_end") == (5, [10, 20], False, "mine", 7)
    assert deployed.artifact(again, "end", "alpha") == 5
