"""What isolated tasks have stored gets no code run on the worker that reads how they ended."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.poison import assert_poisoned, poison

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import StepNotRunnableError
from metaflow_orchestration.run.commands import StepCall, parameters_path

SUMMARY = "0.orchestrator_summary.json"


@pytest.fixture(scope="module")
def manifest(compiled: Callable[..., Manifest]) -> Manifest:
    return compiled("foreach")


@pytest.fixture
def compute(manifest: Manifest, tmp_path: Path) -> Iterator[LocalCompute]:
    lines: list[str] = []
    with LocalCompute(
        manifest=manifest,
        code=manifest.code,
        cache=tmp_path / "code",
        python=sys.executable,
        warm=False,
        idle_seconds=1.0,
        links={},
        variables={},
        on_line=lambda _, text: lines.append(text),
    ) as made:
        yield made


@pytest.fixture
def run_id() -> str:
    return f"airflow-{uuid.uuid4().hex}"


@pytest.fixture
def task(run_id: str, manifest: Manifest, compute: LocalCompute) -> Path:
    """Folder of the finished start task."""
    call = StepCall(
        step=manifest.graph.step(manifest.graph.start),
        run_id=run_id,
        task_id="t",
        attempt=0,
        max_user_retries=0,
        inputs=(parameters_path(run_id),),
    )
    compute.run(call, {})
    return Path(manifest.command.datastore_root) / manifest.graph.name / run_id / manifest.graph.start / "t"


def test_the_worker_unpickles_nothing_that_an_isolated_task_has_written(
    run_id: str, manifest: Manifest, compute: LocalCompute, task: Path, tmp_path: Path
) -> None:
    root, pathspec = Path(manifest.command.datastore_root), f"{manifest.graph.name}/{run_id}/{manifest.graph.start}/t"
    (before,) = compute.probe(manifest.graph.start, run_id, ["t"])
    assert before is not None
    assert before["num_splits"] == len(before["values"])
    written = tmp_path / "written"
    poison(root, pathspec, written)
    assert_poisoned(root, pathspec, written)
    assert compute.probe(manifest.graph.start, run_id, ["t"]) == [before]
    assert not written.exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda summary: summary["outcome"].update(next="end; rm -rf /"), "a wrong next"),
        (lambda summary: summary["outcome"].update(num_splits="3 + 3"), "a wrong num_splits"),
        (lambda summary: summary["outcome"].update(values=[{"x": 1}]), "a wrong values"),
        (lambda summary: summary["outcome"].update(gang={"x": 1}), "a wrong gang"),
        (lambda summary: summary.update(version=99), "is of version 99, and this release reads version 1. Deploy the"),
        (lambda summary: summary.update(version="1"), "is no summary of version 1"),
    ],
)
def test_an_outcome_with_fields_of_wrong_types_is_refused_by_name(
    run_id: str,
    compute: LocalCompute,
    manifest: Manifest,
    task: Path,
    change: Callable[[Any], None],
    complaint: str,
) -> None:
    file = task / SUMMARY
    summary = json.loads(file.read_text())
    change(summary)
    file.write_text(json.dumps(summary))
    with pytest.raises(StepNotRunnableError, match=complaint):
        compute.probe(manifest.graph.start, run_id, ["t"])


def test_unknown_fields_of_an_outcome_and_a_foreign_task_id_are_not_taken_over(
    run_id: str, compute: LocalCompute, manifest: Manifest, task: Path
) -> None:
    file = task / SUMMARY
    summary = json.loads(file.read_text())
    summary["outcome"].update(task_id="../../other", attempt=5, command="x")
    file.write_text(json.dumps(summary))
    (outcome,) = compute.probe(manifest.graph.start, run_id, ["t"])
    assert outcome is not None
    assert (outcome["task_id"], outcome["attempt"]) == ("t", 0)
    assert "command" not in outcome


def test_what_another_deployer_has_stored_is_read_without_running_any_of_it(
    run_id: str, manifest: Manifest, compute: LocalCompute, task: Path, tmp_path: Path
) -> None:
    """A resumed run looks for finished tasks of runs that have written no summaries."""
    root, pathspec = Path(manifest.command.datastore_root), f"{manifest.graph.name}/{run_id}/{manifest.graph.start}/t"
    start = manifest.graph.step(manifest.graph.start)
    assert compute.find_tasks(start, run_id, "airflow-0") is None
    shutil.move(task.parents[1] / "_parameters/t-params", task.parents[1] / "_parameters/7")
    (task / SUMMARY).unlink()
    (found,) = (compute.find_tasks(start, run_id, "airflow-1") or {}).values()
    assert (found["task_id"], found["next"]) == ("t", list(start.next_steps))
    assert found["num_splits"] == len(found["values"])
    written = tmp_path / "written"
    poison(root, pathspec, written)
    assert_poisoned(root, pathspec, written)
    assert compute.find_tasks(start, run_id, "airflow-2") == {}
    assert not written.exists()
