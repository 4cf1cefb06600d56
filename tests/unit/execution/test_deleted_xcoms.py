"""XComs that are deleted after a run, as `airflow db clean` does, and tasks of that run that are cleared later."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.task_runs import FlowRun, MemoryMetaflow

from metaflow_orchestration.graph.identity import airflow_run_id

Start = Callable[..., FlowRun]
NESTED = ("start", "prepare", "fan", "fan-splits", "work", "work-splits", "leaf", "leaf2", "deep_join")


def forgotten(run: FlowRun) -> FlowRun:
    """Delete all XComs of a run."""
    run.xcoms.clear()
    return run


@pytest.mark.parametrize(
    ("cleared", "index", "task", "inputs"),
    [
        ("body", 1, "t-1", ["start/t"]),
        ("collect", -1, "t", ["body/t-0", "body/t-1"]),
        ("end", -1, "t", ["collect/t"]),
    ],
)
def test_a_step_that_is_cleared_later_runs_with_the_inputs_that_are_in_the_datastore(
    start: Start, metaflow: MemoryMetaflow, cleared: str, index: int, task: str, inputs: list[str]
) -> None:
    """A join was skipped, and a mapped step ended with a TypeError."""
    run = start("grouped")
    run.run_all("start", "body", "collect", "end")
    forgotten(run).clear(cleared, index)
    assert run.run(cleared, index) == "success"
    assert metaflow.ran(cleared).count(task) == 2
    assert metaflow.inputs(cleared, task) == inputs
    assert metaflow.calls[-1].inputs[0].startswith(airflow_run_id("GroupedFlow", "manual__1") + "/")


def test_steps_of_a_nested_foreach_find_their_index_again(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("nested_foreach")
    run.run_all(*NESTED)
    before = {(call.step.name, call.task_id): call.inputs for call in metaflow.calls}
    for name in ("leaf", "leaf2", "deep_join"):
        for index in list(run.map_indexes(name)):
            run.clear(name, index)
            forgotten(run)
            assert run.run(name, index) == "success"
            last = metaflow.calls[-1]
            assert last.inputs == before[last.step.name, last.task_id]
            assert last.step.name == name


def test_what_follows_a_recursion_finds_its_last_round(start: Start, metaflow: MemoryMetaflow) -> None:
    """The first round leads to the next one only, so that all that follows was skipped and the run succeeded."""
    last = "t-loop-r2"
    metaflow.outcome = lambda call, document: (
        {**document, "next": ["fan" if call.task_id == last else "loop"]} if call.step.name == "loop" else document
    )
    run = start("recursion")
    run.run_all("start", "loop")
    forgotten(run)
    assert run.run("fan") == "success"
    assert metaflow.calls[-1].inputs[0].endswith(f"/loop/{last}")


def test_a_recursion_whose_last_round_is_gone_is_no_branch_that_was_not_taken(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    metaflow.outcome = lambda call, document: (
        {**document, "next": ["fan" if call.task_id == "t-loop-r2" else "loop"]}
        if call.step.name == "loop"
        else document
    )
    run = start("recursion")
    run.run_all("start", "loop")
    (key,) = [one for one in metaflow.results if one[2] == "t-loop-r2"]
    del metaflow.results[key]
    forgotten(run)
    ended = run.run("fan")
    assert (ended.state, "Clear loop" in str(ended.error) or "clear loop" in str(ended.error)) == ("failed", True)


def test_a_cleared_run_of_a_dag_run_that_was_made_again_reads_its_own_results(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    for _ in range(2):
        run = start("grouped")
        run.run_all("start", "body", "collect", "end")
    forgotten(run).clear("collect", -1)
    run.run_all("collect")
    own = airflow_run_id("GroupedFlow", "manual__1") + "-2"
    assert metaflow.calls[-1].inputs == (f"{own}/body/t-body-0", f"{own}/body/t-body-1")


@pytest.mark.parametrize(("cleared", "index"), [("body", 1), ("collect", -1), ("end", -1)])
def test_where_the_results_are_gone_too_the_task_fails_and_names_what_to_clear(
    start: Start, metaflow: MemoryMetaflow, cleared: str, index: int
) -> None:
    run = start("grouped")
    run.run_all("start", "body", "collect", "end")
    metaflow.results.clear()
    forgotten(run).clear(cleared, index)
    ended = run.run(cleared, index)
    assert ended == "failed"
    parent = {"body": "start", "collect": "body", "end": "collect"}[cleared]
    assert "lear " + parent in str(ended.error)
    assert len(metaflow.ran(cleared)) == (2 if cleared == "body" else 1)


def test_where_branches_meet_a_result_that_is_gone_is_no_branch_that_was_not_taken(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    chosen = {"start": "detour", "detour": "case_x"}
    metaflow.outcome = lambda call, document: {**document, "next": [chosen.get(call.step.name, "meet")]}
    run = start("switch")
    run.run_all("start", "detour", "case_x")
    run.states.update({("case_y", -1): "skipped", ("case_y2", -1): "skipped"})
    (key,) = [one for one in metaflow.results if one[0] == "case_x"]
    del metaflow.results[key]
    forgotten(run)
    ended = run.run("meet")
    assert ended == "failed"
    assert "clear case_x" in str(ended.error)
