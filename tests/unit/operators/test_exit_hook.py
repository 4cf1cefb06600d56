"""Hooks after a run: which of them runs, with which code, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from airflow.sdk import DAG
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.exceptions import StepFailedError
from metaflow_orchestration.graph.identity import airflow_run_id

SCRIPT = "metaflow.plugins.exit_hook.exit_hook_script"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The modules that were run: hash of the code, module, arguments."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        LocalCompute, "run_module", lambda compute, *arguments: found.append((compute.code.sha, *arguments))
    )
    return found


def hooks(dag: DAG, function: str) -> str:
    (found,) = [one.task_id for one in dag.tasks if getattr(one, "function", None) == function]
    return found


@pytest.mark.parametrize("end", ["success", "failed", "upstream_failed", None])
def test_a_hook_runs_after_the_end_that_it_is_for(
    start: Callable[..., FlowRun], metaflow: MemoryMetaflow, called: list[tuple[str, ...]], end: str | None
) -> None:
    run = start("events/hooked")
    run.run_all("start")
    if end is not None:
        run.states["end", -1] = end
    states = {name: run.run(hooks(run.dag, name)).state for name in ("succeeded", "broken", "failed")}
    ran, skipped = ("success", "skipped") if end == "success" else ("skipped", "success")
    assert states == {"succeeded": ran, "broken": ran, "failed": skipped}
    pathspec = f"HookedFlow/{airflow_run_id('HookedFlow', 'manual__1')}"
    names = ["succeeded", "broken"] if end == "success" else ["failed"]
    assert [one[1:] for one in called] == [(SCRIPT, "hooked.py", name, pathspec) for name in names]


def test_a_hook_runs_with_the_code_that_its_run_started_with(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow, called: list[tuple[str, ...]]
) -> None:
    old, new = "0d" * 20, "4e" * 20
    run = FlowRun(make_dag("events/hooked", code=old))
    run.run_all("start")
    run.dag = make_dag("events/hooked", code=new)
    assert run.run(hooks(run.dag, "failed")) == "success"
    # A start step that never ended has told of no code.
    run.xcoms.clear()
    assert run.run(hooks(run.dag, "failed")) == "success"
    assert [one[0] for one in called] == [old, new]


def test_a_hook_is_given_the_run_of_a_dag_run_that_was_made_again(
    start: Callable[..., FlowRun], metaflow: MemoryMetaflow, called: list[tuple[str, ...]]
) -> None:
    for _ in range(2):
        run = start("events/hooked")
        run.run_all("start")
        assert run.run(hooks(run.dag, "failed")) == "success"
    first = f"HookedFlow/{airflow_run_id('HookedFlow', 'manual__1')}"
    assert [one[-1] for one in called] == [first, f"{first}-2"]


def test_a_hook_that_fails_is_closed_and_fails_its_task_alone(
    start: Callable[..., FlowRun], metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[LocalCompute] = []

    def run_module(compute: LocalCompute, *_: str) -> None:
        raise StepFailedError("broken exited with 1")

    def close(compute: LocalCompute) -> None:
        closed.append(compute)

    monkeypatch.setattr(LocalCompute, "run_module", run_module)
    run = start("events/hooked")
    run.run_all("start")
    monkeypatch.setattr(LocalCompute, "close", close)
    ended = run.run(hooks(run.dag, "failed"))
    assert (ended.state, len(closed)) == ("failed", 1)
    ended.operator.on_kill()
    assert len(closed) == 2
