"""A clear begins anew, whatever state it finds a task in: no fallback and no result stands for code from before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.task_runs import FlowRun, MemoryMetaflow, at

from airflow_provider_metaflow import _compat
from airflow_provider_metaflow.execution import clears
from airflow_provider_metaflow.execution.ended_tries import EndedTries
from metaflow_orchestration.exceptions import StepFailedError
from metaflow_orchestration.graph.model import Retry
from metaflow_orchestration.run.commands import StepCall

Start = Callable[..., FlowRun]
Document = dict[str, Any]


def attempts(metaflow: MemoryMetaflow, step: str) -> list[tuple[str, int, bool]]:
    """Of each task of a step that was run: its id, its attempt, and whether that runs user code."""
    return [
        (at(call), call.attempt, call.attempt <= call.max_user_retries)
        for call in metaflow.calls
        if call.step.name == step
    ]


def cleared_during(metaflow: MemoryMetaflow, run: FlowRun, task: str, *indexes: int, kept: bool = False) -> None:
    """Have a step's task instance cleared, and so killed, during the task that a test names.

    :param kept: let the task finish before its task instance can report it.
    """
    step, _, name = task.partition("/")
    once = [True]

    def outcome(call: StepCall, document: Document) -> Document:
        if (call.step.name, at(call)) == (step, name) and once and once.pop():
            if kept:
                metaflow.finish(call, document)
            run.clear(step, *indexes)
            raise StepFailedError("killed")
        return document

    metaflow.outcome = outcome


@pytest.fixture(params=[True, False], ids=["3.3", "before 3.3"])
def each_release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Airflow 3.3 nothing counts the clears of tasks that run."""
    monkeypatch.setattr(_compat, "AIRFLOW_V_3_3_PLUS", request.param)


@pytest.mark.usefixtures("each_release")
@pytest.mark.parametrize("retry", [Retry(user=0, error=1), Retry(user=0, error=3), Retry()])
def test_a_task_that_is_cleared_while_it_runs_runs_its_code_again_and_not_its_fallback(
    start: Start, metaflow: MemoryMetaflow, retry: Retry
) -> None:
    run = start("linear", {"middle": {"retry": retry}})
    run.run_all("start")
    cleared_during(metaflow, run, "middle/t")
    assert run.run("middle") == "up_for_retry"
    assert run.run("middle") == "success"
    assert attempts(metaflow, "middle") == [("t", 0, True), ("t", 1, True)]


@pytest.mark.usefixtures("each_release")
def test_a_fallback_stands_for_code_that_failed_since_the_clear(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=0, error=2)}})
    run.run_all("start")
    cleared_during(metaflow, run, "middle/t")
    run.run("middle")
    metaflow.outcome = lambda call, document: _failing(document, fails=call.attempt <= call.max_user_retries)
    assert [run.run("middle").state for _ in range(2)] == ["up_for_retry", "success"]
    assert attempts(metaflow, "middle") == [("t", 0, True), ("t", 1, True), ("t", 2, False)]


def _failing(document: Document, *, fails: bool) -> Document:
    if fails:
        raise StepFailedError("its code fails")
    return document


@pytest.mark.usefixtures("each_release")
def test_a_task_that_was_cleared_in_its_last_try_runs_its_code(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=1)}})
    run.run_all("start")
    metaflow.outcome = lambda call, document: _failing(document, fails=call.step.name == "middle")
    run.run("middle")
    cleared_during(metaflow, run, "middle/t")
    assert [run.run("middle").state for _ in range(2)] == ["up_for_retry", "success"]
    assert [ran for _, _, ran in attempts(metaflow, "middle")] == [True, True, True]


@pytest.mark.usefixtures("each_release")
def test_a_result_that_was_there_before_a_clear_of_a_running_task_is_made_again(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=1)}})
    run.run_all("start")
    cleared_during(metaflow, run, "middle/t", kept=True)
    assert [run.run("middle").state for _ in range(2)] == ["up_for_retry", "success"]
    assert attempts(metaflow, "middle") == [("t", 0, True), ("t", 1, True)]


@pytest.mark.usefixtures("each_release")
def test_finished_members_of_a_pack_that_is_cleared_while_it_runs_are_run_again(
    start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    metaflow.splits = 4
    run = start("grouped", {"body": {"retry": Retry(user=1)}})
    run.run_all("start")
    cleared_during(metaflow, run, "body/t-1", 0)
    assert run.run("body", 0) == "up_for_retry"
    assert run.run("body", 0) == "success"
    assert metaflow.ran("body") == ["t-0", "t-1", "t-0", "t-1"]


@pytest.mark.usefixtures("each_release")
def test_rounds_of_a_recursion_that_is_cleared_while_it_runs_are_run_again(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("recursion", {"loop": {"retry": Retry(user=1)}})
    run.run_all("start")
    cleared_during(metaflow, run, "loop/t-r1")
    killed = metaflow.outcome

    def outcome(call: StepCall, document: Document) -> Document:
        following = "fan" if at(call) == "t-r2" else "loop"
        return {**killed(call, document), "next": [following]} if call.step.name == "loop" else document  # type: ignore[dict-item]

    metaflow.outcome = outcome
    assert [run.run("loop").state for _ in range(2)] == ["up_for_retry", "success"]
    assert metaflow.ran("loop") == ["t", "t-r1", "t", "t-r1", "t-r2"]


@pytest.mark.usefixtures("each_release")
def test_a_clear_between_tries_is_one_too(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=0, error=1)}})
    run.run_all("start")
    metaflow.outcome = lambda call, document: _failing(document, fails=call.step.name == "middle")
    assert run.run("middle") == "up_for_retry"
    run.clear("middle")
    assert run.run("middle") == "up_for_retry"
    run.run("middle")
    assert [ran for _, _, ran in attempts(metaflow, "middle")] == [True, True, False]


def test_tries_since_a_clear_know_of_each_other(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=0, error=1)}})
    run.run_all("start")
    run.clear("start")
    run.run_all("start")
    # Its first try comes after the clear already.
    metaflow.outcome = lambda call, document: _failing(document, fails=call.attempt <= call.max_user_retries)
    assert [run.run("middle").state for _ in range(2)] == ["up_for_retry", "success"]
    assert attempts(metaflow, "middle") == [("t", 0, True), ("t", 1, False)]


def test_other_retries_of_a_new_deployment_change_nothing_about_what_counts(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow
) -> None:
    steps = {"middle": {"retry": Retry(user=2)}}

    def finished_unseen(call: StepCall, document: Document) -> Document:
        if call.step.name == "middle":
            metaflow.finish(call, document)
            raise StepFailedError("the worker died")
        return document

    metaflow.outcome = finished_unseen
    run = FlowRun(make_dag("linear", steps))
    run.run_all("start")
    assert run.run("middle") == "up_for_retry"
    run.dag = make_dag("linear", steps, step_overrides={"middle": {"retries": 0}})
    assert run.run("middle") == "success"
    assert metaflow.ran("middle") == ["t"]


def test_a_run_that_was_never_cleared_asks_the_datastore_for_no_counts(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=1)}})
    run.run_all("start")
    metaflow.outcome = lambda call, document: _failing(document, fails=call.attempt == 0)
    run.run("middle")
    run.run("middle")
    assert [name for name in metaflow.records if ".middle." in name] == []


def test_what_was_counted_in_a_run_that_was_deleted_does_not_count_in_one_of_its_id(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    """Its clears are counted from 0 again."""
    for _ in range(2):
        since = len(metaflow.calls)
        run = start("linear", {"middle": {"retry": Retry(user=1)}})
        run.run_all("start", "middle")
        run.clear("middle")
        run.run_all("middle")
        assert [call.step.name for call in metaflow.calls[since:]] == ["start", "middle", "middle"]


def test_a_record_of_another_form_is_named(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear")
    run.run_all("start", "middle")
    run.clear("middle")
    run.run_all("middle")
    (name,) = [name for name in metaflow.records if ".middle." in name]
    metaflow.records[name] = {"tries": "many"}
    run.clear("middle")
    ended = run.run("middle")
    assert ended != "success"
    assert f"mf.dag_runs/…/{name}, cannot be read" in str(ended.error)


@pytest.mark.parametrize(("max_tries", "expected"), [(1, 0), (3, 2), (0, 0), (9, 3)])
def test_before_airflow_3_3_the_tries_that_are_granted_tell_of_a_clear(
    monkeypatch: pytest.MonkeyPatch, max_tries: int, expected: int
) -> None:
    monkeypatch.setattr(_compat, "AIRFLOW_V_3_3_PLUS", False)
    counts = clears.TryCounts(name="n", started="", clears=0, tries=3, max_tries=max_tries, retries=1)
    assert counts.before_clear(lambda: pytest.fail("no datastore is asked")) == expected


@pytest.fixture
def before_3_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat, "AIRFLOW_V_3_3_PLUS", False)


@pytest.mark.usefixtures("before_3_3")
def test_before_airflow_3_3_a_fallback_stands_for_code_that_failed(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=1, error=1)}})
    run.run_all("start")
    metaflow.outcome = lambda call, document: _failing(document, fails=call.attempt <= call.max_user_retries)
    assert [run.run("middle").state for _ in range(3)] == ["up_for_retry", "up_for_retry", "success"]
    assert [ran for _, _, ran in attempts(metaflow, "middle")] == [True, True, False]


@pytest.mark.usefixtures("before_3_3")
def test_before_airflow_3_3_code_whose_worker_died_runs_again_instead_of_its_fallback(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    """Noupper recorded a failure; and with no retry left, a task that fails then fails."""
    run = start("foreach", {"upper": {"retry": Retry(user=0, error=1)}})
    run.run_all("start")

    def lost(*_: Any) -> None:
        raise ConnectionError("the worker is gone")

    run.answers["GetTaskStates"] = lost
    metaflow.outcome = lambda call, document: _failing(document, fails=call.step.name == "upper")
    assert [run.run("upper", 0).state for _ in range(2)] == ["up_for_retry", "failed"]
    assert attempts(metaflow, "upper") == [("t-0", 0, True), ("t-0", 1, True)]
    del run.answers["GetTaskStates"]
    metaflow.outcome = lambda call, document: _failing(document, fails=call.attempt <= call.max_user_retries)
    assert [run.run("upper", 1).state for _ in range(2)] == ["up_for_retry", "success"]
    assert [ran for position, _, ran in attempts(metaflow, "upper") if position == "t-1"] == [True, False]


def test_a_task_of_a_foreach_whose_opener_was_cleared_does_not_take_its_old_result(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    """Between the steps stands the task that lists the splits, so Airflow lets it run."""
    run = start("nested_foreach")
    run.run_all("start", "prepare", "fan", "fan-splits")
    run.clear("fan", 0)
    states = [run.run("work", index) for index in range(4)]
    assert [one.state for one in states] == ["failed", "failed", "success", "success"]
    assert "step work: was to run with the splits of fan, which was cleared and has not succeeded again" in str(
        states[0].error
    )
    assert "Clear fan together with what comes after it" in str(states[0].error)
    assert metaflow.ran("work") == ["t-1-0", "t-1-1"]
    run.run("fan", 0)
    run.clear("work", 0, 1)
    assert [run.run("work", index).state for index in range(2)] == ["success", "success"]


@pytest.mark.usefixtures("before_3_3")
def test_before_airflow_3_3_a_first_try_asks_the_datastore_for_nothing() -> None:
    counts = clears.TryCounts(name="n", started="", clears=0, tries=0, max_tries=3, retries=1)
    known = EndedTries(counts, lambda: pytest.fail("the datastore is asked")).known()
    assert (known.before_clear, known.is_last_known) == (0, True)
