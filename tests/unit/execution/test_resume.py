"""Resumed runs with Metaflow's own processes: which parameters their steps see, and what their clones keep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES
from tests.support.environment import environment_variable
from tests.support.task_runs import FlowRun

from airflow_provider_metaflow import MetaflowDag
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.resumed_run import change_parameters
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.graph.identity import airflow_run_id

pytestmark = pytest.mark.subprocess

FLOWS = Path(__file__).parents[2] / "flows"
STEPS = ("start", "body", "collect", "end")
LOCAL = next(one for one in DATASTORES if one.TYPE == "local")


ADDED = """
    @step
    def added(self):
        self.of_added = (self.alpha, self.fresh)
        self.next(self.end)

"""


class Deployed:
    """A flow that is deployed to a folder; each of its runs is driven by the test."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root, self.source, self.count = root, source, 0
        self.deploy(source.read_text())

    def deploy(self, text: str) -> None:
        folder = self.root / f"flow-{self.count}"
        folder.mkdir()
        (folder / "resumed.py").write_text(text)
        with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(self.root)):
            options = CompileOptions(python=sys.executable)
            self.file = folder / "resumed.py"
            self.manifest: Manifest = load_manifest(self.file, options, self.root / "cache")
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

    def run_by_metaflow(self, *arguments: str) -> str:
        """Run the flow without any orchestrator, and return its run id; the run may fail."""
        environment = {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.root), "METAFLOW_USER": "ann"}
        subprocess.run(
            [sys.executable, str(self.file), "--no-pylint", "--datastore=local", "--metadata=local", "run",
             f"--run-id-file={self.root / 'id'}", *arguments],
            cwd=self.root, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        return (self.root / "id").read_text()

    def clones(self, run: FlowRun, *steps: str, at: str = "") -> list[str]:
        """Return the steps whose task was taken over from another run."""
        folder = self.root / ".metaflow/ResumedFlow" / self.run_id(run)
        return [one for one in steps if list((folder / one / f"t-{one}{at}" / "_meta").glob("*origin-task-id*"))]

    def artifact(self, run: FlowRun | str, step: str, name: str, at: str = "") -> Any:
        run_id = run if isinstance(run, str) else self.run_id(run)
        return self.store.get_task_datastore(run_id, step, at if step == "_parameters" else f"t-{step}{at}")[name]

    def summary(self, run: FlowRun, step: str) -> dict[str, Any]:
        folder = self.root / ".metaflow/ResumedFlow" / self.run_id(run) / step / f"t-{step}"
        found: dict[str, Any] = json.loads((folder / "0.orchestrator_summary.json").read_text())
        return found

    @property
    def store(self) -> Any:
        return FlowDataStore("ResumedFlow", None, storage_impl=LOCAL, ds_root=str(self.root / ".metaflow"))


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
    assert deployed.artifact(again, "end", "origin") == deployed.run_id(first)
    # Airflow's tab reads the parameters of a run here, and must not show those of the other run.
    assert "parameters" in deployed.summary(first, "start")
    assert "parameters" not in deployed.summary(again, "start")
    assert deployed.artifact(again, "end", "alpha") == 5


def test_parameters_that_are_not_given_are_those_of_the_other_run_whatever_has_been_deployed_since(
    deployed: Deployed,
) -> None:
    # The name of a parameter need not be that of its variable; a DAG run takes the name.
    first = deployed.start(**{"deep-size": [30], "alpha": 2})
    first.run_all("start")
    text = deployed.source.read_text().replace('"untouched", default="default"', '"untouched", default="new"')
    deployed.deploy(text.replace("constant = 7", "constant = 8"))
    again = deployed.resume(first)
    again.run_all(*STEPS)
    # A constant is the code's, which is that of today.
    assert deployed.artifact(again, "end", "of_end") == (2, [30], False, "default", 8)


def test_a_step_whose_successor_is_new_runs_again_and_what_is_new_is_seen(deployed: Deployed) -> None:
    first = deployed.start(alpha=2)
    first.run_all(*STEPS)
    text = deployed.source.read_text().replace("        self.next(self.end)", "        self.next(self.added)")
    text = text.replace("    @step\n    def end(self):", ADDED + "    @step\n    def end(self):")
    deployed.deploy(text.replace("    constant = 7", '    fresh = Parameter("fresh", default="new")\n    constant = 7'))
    again = deployed.resume(first)
    again.run_all("start", "body", "collect", "added", "end")
    assert deployed.clones(again, "start", "collect", "added", "end") == ["start"]
    assert deployed.clones(again, "body", at="-0") == deployed.clones(again, "body", at="-1") == ["body"]
    assert deployed.artifact(again, "added", "of_added") == (2, "new")
    assert deployed.artifact(again, "end", "of_end") == (2, [10, 20], False, "default", 7)


def test_a_run_that_metaflow_itself_made_is_resumed(deployed: Deployed) -> None:
    origin = deployed.run_by_metaflow("--alpha=2", "--unlucky=True")
    again = deployed.resume(origin, unlucky=False, untouched="given")
    again.run_all(*STEPS)
    assert deployed.clones(again, *STEPS) == ["start"]
    assert deployed.clones(again, "body", at="-0") == ["body"]
    assert deployed.artifact(again, "start", "of_start") == 2
    assert deployed.artifact(again, "end", "of_end") == (2, [10, 20], False, "given", 7)
    # What was resumed can be resumed, and a step run again.
    third = deployed.resume(again, step="collect", alpha=9)
    third.run_all(*STEPS)
    assert deployed.artifact(third, "collect", "bodies") == [(2, 10), (2, 20)]
    assert deployed.artifact(third, "end", "of_end") == (9, [10, 20], False, "given", 7)


def test_a_run_that_has_stored_nothing_cannot_be_resumed(deployed: Deployed) -> None:
    again = deployed.resume("airflow-0123456789abcdef")
    ended = again.run("start")
    assert ended == "failed"
    assert "flow ResumedFlow: the run airflow-0123456789abcdef, which is to be resumed, has" in str(ended.error)
    assert not (deployed.root / ".metaflow/ResumedFlow" / deployed.run_id(again)).exists()


def test_a_run_that_goes_on_in_place_with_other_parameters_has_them_in_each_step_that_runs_again(
    deployed: Deployed,
) -> None:
    run = deployed.start(alpha=2, unlucky=True)
    run.run_all("start")
    assert [run.run("body", 0), run.run("body", 1)] == ["success", "failed"]
    values = {"alpha": 5, "unlucky": False}
    change_parameters(deployed.store, SimpleNamespace(register_metadata=lambda *_: None), deployed.run_id(run), values)
    run.clear("body", 1)
    assert run.run("body", 1) == "success"
    run.run_all("collect", "end")
    assert deployed.artifact(run, "_parameters", "alpha", "t-params") == 5
    assert deployed.artifact(run, "start", "of_start") == 2
    assert deployed.artifact(run, "collect", "bodies") == [(2, 10), (5, 20)]
    # The first of its inputs has seen the parameters of before.
    assert deployed.artifact(run, "collect", "of_collect") == 5
    assert deployed.artifact(run, "end", "of_end") == (5, [10, 20], False, "default", 7)
    # Its conf, which a resume passes on for those that Airflow requires, still says 2.
    resume = {"origin": deployed.run_id(run), "step": "end", "given": ["untouched"]}
    again = deployed.start(alpha=2, untouched="mine", metaflow_resume=resume)
    again.run_all(*STEPS)
    assert deployed.artifact(again, "end", "of_end") == (5, [10, 20], False, "mine", 7)


@pytest.mark.extended
def test_a_join_of_many_tasks_that_were_taken_over_sees_the_parameters_of_its_run(deployed: Deployed) -> None:
    """Metaflow reads more than four inputs in another way."""
    first = deployed.start(**{"deep-size": [1, 2, 3, 4, 5, 6], "alpha": 2})
    first.run_all(*STEPS)
    again = deployed.resume(first, step="collect", alpha=5)
    again.run_all(*STEPS)
    assert deployed.artifact(again, "collect", "bodies") == [(2, one) for one in range(1, 7)]
    assert deployed.artifact(again, "collect", "through_inputs") == [5] * 6


NESTED = """
from metaflow import FlowSpec, Parameter, step


class ResumedFlow(FlowSpec):
    unlucky = Parameter("unlucky", default=False)

    @step
    def start(self):
        self.outer = [1, 2]
        self.next(self.row, foreach="outer")

    @step
    def row(self):
        self.inner = ["a", "b"]
        self.number = self.input
        self.next(self.cell, foreach="inner")

    @step
    def cell(self):
        self.value = (self.number, self.input)
        self.next(self.cells)

    @step
    def cells(self, inputs):
        self.values = [one.value for one in inputs]
        self.next(self.rows)

    @step
    def rows(self, inputs):
        self.values = [one.values for one in inputs]
        self.rounds = 0
        self.next(self.loop)

    @step
    def loop(self):
        self.rounds += 1
        self.state = "more" if self.rounds < 3 else "done"
        self.next({"more": self.loop, "done": self.end}, condition="state")

    @step
    def end(self):
        if self.unlucky:
            raise ValueError("unlucky")
        self.total = (self.rounds, self.values)


if __name__ == "__main__":
    ResumedFlow()
"""


@pytest.mark.extended
def test_nested_foreaches_and_rounds_of_a_run_of_metaflow_itself_are_found_where_they_stand(
    deployed: Deployed,
) -> None:
    deployed.deploy(NESTED)
    again = deployed.resume(deployed.run_by_metaflow("--unlucky=True"), unlucky=False)
    again.run_all(*(task.task_id for task in deployed.dag.topological_sort()))
    values = [[(1, "a"), (1, "b")], [(2, "a"), (2, "b")]]
    assert deployed.artifact(again, "end", "total") == (3, values)
    taken = {
        "start": [""], "row": ["-0", "-1"], "cell": ["-0-0", "-0-1", "-1-0", "-1-1"], "cells": ["-0", "-1"],
        "rows": [""], "loop": ["", "-r1", "-r2"],
    }  # fmt: skip
    assert [one for one, places in taken.items() for at in places if not deployed.clones(again, one, at=at)] == []
    assert deployed.clones(again, "end") == []
