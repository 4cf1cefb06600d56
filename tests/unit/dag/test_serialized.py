"""The serialized DAG of each flow with decorators (golden files; write them again with --update-golden)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from tests.support.recorded import DECORATED, GOLDEN

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.containers import batch_jobs, pods
from metaflow_orchestration.containers.command import container_command
from metaflow_orchestration.containers.gang import make_job
from metaflow_orchestration.containers.options import base_attributes, deadline_of
from metaflow_orchestration.containers.pods import make_pod
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.graph.compute import Compute, compute_of
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import StepCall


@pytest.fixture
def dag_of(recorded: Callable[[str], Manifest], tmp_path: Path) -> Callable[..., MetaflowDag]:
    """Makes the DAG of a recorded flow."""

    def make(name: str, **arguments: Any) -> MetaflowDag:
        path = tmp_path / "flow.metaflow.json"
        path.write_bytes(encode_manifest(recorded(name)))
        dag = MetaflowDag(path, **arguments)
        dag.fileloc = dag.relative_fileloc = "dag.py"
        return dag

    return make


def readable(document: Any) -> Any:
    """Drop what is of this machine or stands elsewhere, and decode what the DAG says of its deployment."""
    if isinstance(document, dict):
        kept = {key: readable(value) for key, value in document.items() if key != "_processor_dags_folder"}
        if kept.get("__type") == "operator":
            # Those of the DAG once more.
            kept["__var"].pop("params", None)
        return kept
    if isinstance(document, list):
        return [readable(one) for one in document]
    if isinstance(document, str) and "<data:application/json;base64," in document:
        text, _, encoded = document.partition("<data:application/json;base64,")
        told = json.loads(base64.b64decode(encoded.rstrip(">\n")))
        # Of the manifest, which has a golden file of its own.
        told.pop("digest", None)
        return [text, told]
    return document


def golden(file: Path, made: Any, request: pytest.FixtureRequest) -> Any:
    """Return the content of a golden file; with `--update-golden`, write it first."""
    if request.config.getoption("--update-golden"):
        file.write_text(json.dumps(made, indent=1) + "\n")
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", DECORATED)
def test_the_serialized_dag_is_that_of_the_last_release(
    name: str, dag_of: Callable[..., MetaflowDag], request: pytest.FixtureRequest
) -> None:
    made = readable(json.loads(json.dumps(DagSerialization.to_dict(dag_of(name)), sort_keys=True)))
    assert made == golden(GOLDEN / name / "serialized.json", made, request)


def pod_of(manifest: Manifest, step: Step) -> dict[str, Any]:
    """The pod of a task on Airflow, or the job of a gang's pods."""
    call = call_of(step)
    attributes = base_attributes(manifest, step, Compute.KUBERNETES)
    assert attributes is not None
    pod = make_pod(
        attributes,
        command=container_command(manifest, manifest.code, step.name)[:1],
        environment=pods.task_environment(attributes),
        labels=pods.pod_labels(manifest, call),
        annotations=pods.pod_annotations(manifest, call),
        deadline_seconds=deadline_of(step),
    )
    return make_job({**pod, "metadata": {**pod["metadata"], "name": "gang"}}, 4) if step.gang else pod


def job_of(manifest: Manifest, step: Step) -> dict[str, Any]:
    """The job definition of a step on Airflow, and what its jobs are submitted with."""
    call = call_of(step)
    attributes = base_attributes(manifest, step, Compute.BATCH)
    assert attributes is not None
    overrides = batch_jobs.container_overrides(attributes, batch_jobs.task_environment(attributes))
    definition = batch_jobs.job_definition(
        attributes,
        command=container_command(manifest, manifest.code, step.name)[:1],
        platform="FARGATE" if attributes["queue"].endswith("fargate") else "EC2",
        gang=step.gang,
        flow=manifest.graph.name,
        step=step.name,
    )
    return {
        "definition": definition,
        "overrides": batch_jobs.node_overrides(overrides, 4) if step.gang else overrides,
        "parameters": batch_jobs.job_parameters(manifest, call),
        "tags": batch_jobs.job_tags(manifest, call, attributes),
        "name": batch_jobs.job_name(manifest, call),
    }


def call_of(step: Step) -> StepCall:
    return StepCall(
        step=step, run_id="airflow-1", task_id="t-0", attempt=1, max_user_retries=step.retry.user, inputs=()
    )


@pytest.mark.parametrize(("name", "make"), [("decorated/pods", pod_of), ("decorated/jobs", job_of)])
def test_pods_and_jobs_of_steps_are_those_of_the_last_release(
    name: str,
    make: Callable[[Manifest, Step], dict[str, Any]],
    recorded: Callable[[str], Manifest],
    request: pytest.FixtureRequest,
) -> None:
    manifest = recorded(name)
    remote = [step for step in manifest.graph.steps if compute_of(step) is not Compute.LOCAL]
    made = json.loads(json.dumps({step.name: make(manifest, step) for step in remote}))
    assert made == golden(GOLDEN / name / "containers.json", made, request)
