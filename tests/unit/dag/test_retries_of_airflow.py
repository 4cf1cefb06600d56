"""Retries that neither the flow nor its DAG file say: of a cluster policy, and of Airflow's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow import settings
from msgspec.structs import replace
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow._compat import DagBag
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import StepFailedError
from metaflow_orchestration.graph.model import Decorator, Retry, Step
from metaflow_orchestration.run.commands import StepCall


@pytest.fixture
def linear(compiled: Callable[..., Manifest], tmp_path: Path) -> Callable[..., Path]:
    """Writes a manifest whose step `middle` is another."""

    def write(**changes: Any) -> Path:
        manifest = compiled("linear")
        graph = manifest.graph

        def one(step: Step) -> Step:
            return replace(step, **changes) if step.name == "middle" else step

        path = tmp_path / "linear.metaflow.json"
        path.write_bytes(encode_manifest(replace(manifest, graph=replace(graph, steps=tuple(map(one, graph.steps))))))
        return path

    return write


@pytest.mark.parametrize(
    ("capped", "fallback_runs"), [(0, False), (1, True), (2, True)], ids=["no retry", "one retry", "two retries"]
)
def test_user_code_runs_before_its_fallback_however_few_retries_a_cluster_policy_leaves(
    linear: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capped: int, fallback_runs: bool
) -> None:
    """`task_policy` of airflow_local_settings is called when Airflow takes a DAG into its bag."""

    def task_policy(task: Any) -> None:
        task.retries = min(task.retries or 0, capped)

    monkeypatch.setattr(settings, "task_policy", task_policy)
    dag = MetaflowDag(linear(retry=Retry(user=0, error=3)))
    assert dag.get_task("middle").retries == 3
    DagBag(os.devnull, collect_dags=False).bag_dag(dag)
    assert dag.get_task("middle").retries == capped

    def fails(call: StepCall, document: dict[str, Any]) -> dict[str, Any]:
        if call.step.name == "middle" and call.attempt <= call.max_user_retries:
            raise StepFailedError("its code fails.", flow="LinearFlow", step="middle")
        return document

    metaflow = MemoryMetaflow().install(monkeypatch)
    metaflow.outcome = fails
    run = FlowRun(dag)
    run.run_all("start")
    states = [run.run("middle").state]
    while states[-1] == "up_for_retry":
        states.append(run.run("middle").state)
    attempts = [(call.attempt, call.max_user_retries) for call in metaflow.calls[1:]]
    # Attempt 0 is of user code, the next of the fallback, if there is a try for it.
    assert attempts == [(0, 0), (1, 0)][: len(states)]
    assert states[-1] == ("success" if fallback_runs else "failed")


@pytest.mark.subprocess
def test_a_step_that_must_not_be_retried_is_not_by_the_default_of_airflows_configuration(
    linear: Callable[..., Path],
) -> None:
    """Airflow reads `[core] default_task_retries` when it is imported."""
    path = linear(decorators=(Decorator(name="retry", attributes={"times": 0, "minutes_between_retries": 2}),))
    script = (
        "import sys; from airflow_provider_metaflow import MetaflowDag; dag = MetaflowDag(sys.argv[1]);"
        "print(*(dag.get_task(step).retries for step in ('start', 'middle', 'end')))"
    )
    environment = {**os.environ, "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "4"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["4 0 4"], done.stderr
