"""Tries of task instances, by Airflow's own task runner: attempts, retries, clears, packs, recursion, skips, resume."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import comms
from tests.support.task_runs import FlowRun, MemoryMetaflow, at

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.compute.remote import Progress
from metaflow_orchestration.documents.manifest import read_manifest
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.graph.identity import airflow_run_id, position_in_step
from metaflow_orchestration.graph.model import Retry
from metaflow_orchestration.run.commands import StepCall

Start = Callable[..., FlowRun]
Document = dict[str, Any]
OLD, NEW = "a" * 40, "b" * 40


def fails(
    *tasks: str, attempts: int = 99, error: type[StepFailedError] = StepFailedError
) -> Callable[[StepCall, Document], Document]:
    """Let tasks `step/task` fail in their first attempts."""

    def outcome(call: StepCall, document: Document) -> Document:
        if f"{call.step.name}/{at(call)}" in tasks and call.attempt < attempts:
            raise error(f"{at(call)} failed.", flow="F", step=call.step.name)
        return document

    return outcome


def attempt(call: StepCall) -> tuple[str, int, int]:
    return at(call), call.attempt, call.max_user_retries


# What a task is run with.


def test_the_start_step_takes_the_parameters_of_the_run_as_text_and_no_other_step_does(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("switch", conf={"route": "short"})
    run.run_all("start", "meet")
    run_id = airflow_run_id("SwitchFlow", "manual__1")
    assert metaflow.call("start").inputs == (f"{run_id}/_parameters/t-params",)
    assert metaflow.parameters == [{"route": "short"}, None]
    assert {call.run_id for call in metaflow.calls} == {run_id}


def test_a_template_for_a_parameter_is_rendered_unless_the_run_brings_a_value(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow
) -> None:
    for conf, expected in (({}, "of manual__1"), ({"text": None}, "of manual__1"), ({"text": "mine"}, "mine")):
        run = FlowRun(make_dag("grouped", parameters={"text": "of {{ run_id }}"}), conf=conf)
        run.run_all("start")
        assert (metaflow.parameters[-1] or {})["text"] == expected


def test_a_task_outside_of_a_foreach_has_no_split_index_and_one_inside_that_of_the_innermost(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("nested_foreach")
    run.run_all("start", "prepare", "fan", "fan-splits", "work")
    assert metaflow.call("start").split_index is None
    assert metaflow.call("work", "t-1-0").split_index == 0
    assert metaflow.call("work", "t-0-1").split_index == 1


def test_the_run_is_named_by_the_end_step_and_splits_by_the_foreach(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = lambda call, document: (
        {**document, "values": ["red", "blue"]} if call.step.name == "start" else document
    )
    run = start("grouped")
    run.run_all("start", "body", "collect", "end")
    assert run.value("end") == f"GroupedFlow/{airflow_run_id('GroupedFlow', 'manual__1')}"
    assert run.labels == {("body", 0): "red", ("body", 1): "blue"}
    assert run.value("collect") is None


def test_a_task_knows_its_airflow_run(start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[LocalCompute] = []
    run_task = LocalCompute.run
    monkeypatch.setattr(LocalCompute, "run", lambda compute, *a: (seen.append(compute), run_task(compute, *a))[1])
    run = start("grouped")
    run.run_all("start", "body")
    assert seen[-1].links == {
        "airflow-dag-id": "GroupedFlow",
        "airflow-dag-run-id": "manual__1",
        "airflow-task-id": "body",
        "airflow-map-index": "1",
        "airflow-try-number": "1",
    }
    assert seen[-1].variables["AIRFLOW_CTX_TASK_ID"] == "body"
    assert "METAFLOW_ORCHESTRATOR_TRIGGERS" not in seen[-1].variables


def test_a_flow_inside_a_dag_has_a_run_and_parameters_of_its_own(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    from airflow_provider_metaflow import MetaflowTaskGroup

    make_dag("grouped")
    with DAG("outer", schedule=None) as dag:
        for name in ("one", "two"):
            MetaflowTaskGroup(
                tmp_path / "grouped.metaflow.json", group_id=name, parameters={"text": f"{name} {{{{ run_id }}}}"}
            )
    run = FlowRun(dag, conf={"metaflow_resume": "is for DAGs of one flow"})
    for name in ("one", "two"):
        run.run_all(*(f"{name}.{step}" for step in ("start", "body", "collect", "end")))
    assert [given["text"] for given in metaflow.parameters if given] == ["one manual__1", "two manual__1"]
    assert run.value("one.end") != run.value("two.end")
    assert run.value("two.end") == f"GroupedFlow/{airflow_run_id('outer', 'manual__1', 'two.')}"
    assert metaflow.ran("collect") == ["t", "t"]


def test_a_flow_in_a_mapped_group_has_a_run_of_its_own_for_each_instance(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    """They shared one run, and every step after the first was skipped, in a DAG run that succeeded."""
    from airflow.sdk import task_group

    from airflow_provider_metaflow import MetaflowTaskGroup

    make_dag("files/parameters")
    path = tmp_path / "parameters.metaflow.json"
    steps = [step.name for step in read_manifest(path).graph.steps]
    with DAG("outer", schedule=None) as dag:

        @task_group
        def one_day(day: str) -> None:
            MetaflowTaskGroup(path, group_id="train", parameters={"text": day, "required": "x"})

        one_day.expand(day=["mon", "tue", "wed"])
    run = FlowRun(dag)
    for step in steps:
        for index in range(3):
            assert run.run(f"one_day.train.{step}", index) == "success", step
    assert [given["text"] for given in metaflow.parameters if given] == ["mon", "tue", "wed"]
    run_ids = [airflow_run_id("outer", "manual__1", "one_day.train.", index) for index in range(3)]
    assert len(set(run_ids)) == 3
    assert [call.run_id for call in metaflow.calls] == run_ids * len(steps)
    assert {path.partition("/")[0] for path in metaflow.call("end").inputs} == {run_ids[2]}
    assert run.value("one_day.train.end", 1) == f"ParametersFlow/{run_ids[1]}"


# Attempts.


def test_each_try_is_the_next_attempt_of_the_same_task(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = fails("middle/t", attempts=2)
    run = start("linear", {"middle": {"retry": Retry(user=2)}})
    run.run_all("start")
    assert [run.run("middle").state for _ in range(3)] == ["up_for_retry", "up_for_retry", "success"]
    assert [attempt(call) for call in metaflow.calls[1:]] == [("t", 0, 2), ("t", 1, 2), ("t", 2, 2)]


def test_retries_for_a_fallback_run_no_user_code(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = fails("middle/t", attempts=2)
    run = start("linear", {"middle": {"retry": Retry(user=1, error=1)}})
    run.run_all("start")
    for _ in range(3):
        run.run("middle")
    # The third attempt is above the limit of those that run user code.
    assert [attempt(call)[1:] for call in metaflow.calls[1:]] == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("granted", [0, 1, 2, 3])
def test_user_code_runs_first_however_few_retries_are_granted(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow, granted: int
) -> None:
    """A cluster policy or `step_overrides` may grant fewer retries than `@catch` asks for."""
    metaflow.outcome = fails("middle/t", attempts=99)
    steps = {"middle": {"retry": Retry(user=0, error=3)}}
    run = FlowRun(make_dag("linear", steps, step_overrides={"middle": {"retries": granted}}))
    run.run_all("start")
    states = [run.run("middle").state for _ in range(granted + 1)]
    assert states == ["up_for_retry"] * granted + ["failed"]
    # Attempt 0 runs user code; those after it the fallback, which is what the limit 0 means.
    assert [attempt(call)[1:] for call in metaflow.calls[1:]] == [(number, 0) for number in range(granted + 1)]


def test_a_clear_goes_on_counting_attempts_and_allows_as_many_retries_again(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=1, error=1)}})
    run.run_all("start", "middle")
    run.clear("middle")
    run.run_all("middle")
    assert [attempt(call) for call in metaflow.calls[1:]] == [("t", 0, 1), ("t", 1, 2)]


def test_the_seventh_attempt_is_the_first_of_a_task_of_its_own_and_the_next_step_takes_that(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("linear")
    run.run_all("start")
    for _ in range(8):
        run.run_all("middle")
        run.clear("middle")
    assert [attempt(call)[:2] for call in metaflow.calls[1:]] == [
        *(("t", n) for n in range(6)),
        ("t-g1", 0),
        ("t-g1", 1),
    ]
    run.run_all("end")
    assert metaflow.inputs("end") == ["middle/t-g1"]


def test_a_failure_that_asks_for_no_other_attempt_fails_at_once(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = fails("middle/t", error=FinalFailureError)
    run = start("linear", {"middle": {"retry": Retry(user=3)}})
    run.run_all("start")
    assert run.run("middle") == "failed"


def test_a_foreach_without_a_size_is_an_error_of_its_step(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = lambda call, document: {**document, "num_splits": 0}
    ended = start("foreach").run("start")
    assert ended == "failed"
    assert "flow ForeachFlow step start: its foreach has no size." in str(ended.error)


# What a try before this one has finished, whose worker died.


def test_a_result_that_nobody_reported_is_taken_by_the_next_try(start: Start, metaflow: MemoryMetaflow) -> None:
    def lost(call: StepCall, document: Document) -> Document:
        if call.step.name == "middle":
            metaflow.finish(call, document)
            raise StepFailedError("the worker died")
        return document

    metaflow.outcome = lost
    run = start("linear", {"middle": {"retry": Retry(user=1)}})
    run.run_all("start")
    assert [run.run("middle").state for _ in range(2)] == ["up_for_retry", "success"]
    assert metaflow.ran("middle") == ["t"]
    run.run_all("end")
    assert metaflow.inputs("end") == ["middle/t"]


def test_a_result_from_before_a_clear_is_made_again(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=2)}})
    run.run_all("start", "middle")
    run.clear("middle")
    metaflow.outcome = fails("middle/t", attempts=2)
    assert [run.run("middle").state for _ in range(2)] == ["up_for_retry", "success"]
    assert [call.attempt for call in metaflow.calls if call.step.name == "middle"] == [0, 1, 2]


# Packs: several tasks in one task instance.


@pytest.fixture
def packed(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    return start


def test_a_pack_runs_its_tasks_in_split_order_and_the_join_takes_all(packed: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.splits = 5
    run = packed("grouped")
    run.run_all("start", "body", "collect")
    assert run.map_indexes("body") == [0, 1]
    assert metaflow.ran("body") == [f"t-{index}" for index in range(5)]
    assert metaflow.inputs("collect") == [f"body/t-{index}" for index in range(5)]
    assert run.labels["body", 0] == "0 … 2"


def test_a_task_that_fails_keeps_no_other_of_its_pack_from_running_and_the_retry_runs_only_that(
    packed: Start, metaflow: MemoryMetaflow
) -> None:
    metaflow.splits = 6
    metaflow.outcome = fails("body/t-1", attempts=1)
    run = packed("grouped", {"body": {"retry": Retry(user=1)}})
    run.run_all("start")
    ended = run.run("body", 0)
    assert ended == "up_for_retry"
    assert "flow GroupedFlow step body: 1 of 3 packed tasks failed; the first: t-1 failed." in str(ended.error)
    assert metaflow.ran("body") == ["t-0", "t-1", "t-2"]
    run.run_all("body", "collect")
    assert metaflow.ran("body") == ["t-0", "t-1", "t-2", "t-1", "t-3", "t-4", "t-5"]
    assert metaflow.call("body", "t-1").attempt == 1
    assert metaflow.inputs("collect") == [f"body/t-{index}" for index in range(6)]


def test_a_pack_of_which_one_task_wants_no_retry_gets_none(packed: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.splits = 4
    metaflow.outcome = fails("body/t-0", error=FinalFailureError)
    run = packed("grouped", {"body": {"retry": Retry(user=1)}})
    run.run_all("start")
    assert run.run("body", 0) == "failed"
    assert metaflow.ran("body") == ["t-0", "t-1"]


def test_the_others_of_a_pack_are_tried_again_without_the_one_that_wants_no_retry(
    packed: Start, metaflow: MemoryMetaflow
) -> None:
    metaflow.splits = 6
    final, again = fails("body/t-0", error=FinalFailureError, attempts=99), fails("body/t-1", attempts=1)
    metaflow.outcome = lambda call, document: again(call, final(call, document))
    run = packed("grouped", {"body": {"retry": Retry(user=2)}})
    run.run_all("start")
    assert run.run("body", 0) == "up_for_retry"
    assert metaflow.ran("body") == ["t-0", "t-1", "t-2"]
    ended = run.run("body", 0)
    # Now only the one that wants no retry has failed, though another is left.
    assert ended == "failed"
    assert "1 of 3 packed tasks failed; the first: t-0 failed." in str(ended.error)
    assert metaflow.ran("body") == ["t-0", "t-1", "t-2", "t-1"]
    # A clear is another chance for all.
    run.clear("body", 0)
    metaflow.outcome = lambda _, document: document
    assert run.run("body", 0) == "success"
    assert metaflow.ran("body")[4:] == ["t-0", "t-1", "t-2"]


def test_two_of_a_pack_that_fail_are_counted(packed: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.splits = 6
    metaflow.outcome = fails("body/t-3", "body/t-5")
    run = packed("grouped")
    run.run_all("start")
    assert "2 of 3 packed tasks failed; the first: t-3 failed" in str(run.run("body", 1).error)


def test_the_operator_of_a_pack_tells_the_task_that_it_ran_last(packed: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.splits = 6
    run = packed("grouped")
    run.run_all("start")
    assert run.run("body", 0).operator.metaflow_pathspec.endswith("/body/t-body-2")


# Recursion.


def rounds(of: str, count: int) -> Callable[[StepCall, Document], Document]:
    """Let a recursive switch go round so often, then leave."""

    def outcome(call: StepCall, document: Document) -> Document:
        if call.step.name == of:
            is_last = at(call).endswith(f"-r{count - 1}") or count == 1
            document["next"] = [step for step in call.step.next_steps if step != of] if is_last else [of]
        return document

    return outcome


def test_each_round_of_a_recursion_takes_the_one_before_and_the_next_step_the_last(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    metaflow.outcome = rounds("loop", 3)
    run = start("recursion")
    run.run_all("start", "loop", "fan")
    assert metaflow.ran("loop") == ["t", "t-r1", "t-r2"]
    assert [metaflow.inputs("loop", name) for name in metaflow.ran("loop")] == [["start/t"], ["loop/t"], ["loop/t-r1"]]
    assert metaflow.inputs("fan") == ["loop/t-r2"]


def test_a_retry_goes_on_with_the_round_that_failed(start: Start, metaflow: MemoryMetaflow) -> None:
    go_round = rounds("loop", 4)

    def outcome(call: StepCall, document: Document) -> Document:
        return go_round(call, fails("loop/t-r2", attempts=1)(call, document))

    metaflow.outcome = outcome
    run = start("recursion", {"loop": {"retry": Retry(user=1)}})
    run.run_all("start")
    assert [run.run("loop").state for _ in range(2)] == ["up_for_retry", "success"]
    assert metaflow.ran("loop") == ["t", "t-r1", "t-r2", "t-r2", "t-r3"]
    assert metaflow.inputs("loop", "t-r2") == ["loop/t-r1"]


def test_a_cleared_recursion_starts_over(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = rounds("loop", 2)
    run = start("recursion")
    run.run_all("start", "loop")
    run.clear("loop")
    run.run_all("loop")
    assert [attempt(call)[:2] for call in metaflow.calls[1:]] == [("t", 0), ("t-r1", 0), ("t", 1), ("t-r1", 1)]


# Switches, joins, and results that are missing.


def test_a_step_that_was_not_chosen_is_skipped_and_where_branches_meet_goes_on(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    metaflow.outcome = lambda call, document: {**document, "next": ["meet"]} if call.step.name == "start" else document
    run = start("switch")
    run.run_all("start")
    assert [run.run(step).state for step in ("detour", "case_x", "case_y", "case_y2")] == ["skipped"] * 4
    run.run_all("meet", "end")
    assert metaflow.inputs("meet") == ["start/t"]
    assert metaflow.ran() == ["start/t", "meet/t", "end/t"]


def test_what_a_task_left_behind_before_a_clear_does_not_count_when_it_is_skipped_now(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    chosen = ["detour"]
    metaflow.outcome = lambda call, document: {
        **document, "next": {"start": chosen, "detour": ["case_x"]}.get(call.step.name, document["next"])
    }  # fmt: skip
    run = start("switch")
    run.run_all("start", "detour", "case_x")
    chosen[:] = ["meet"]
    run.clear("start")
    run.run_all("start")
    # Airflow's trigger rules skip them before they start: their XComs stay.
    run.states.update({("detour", -1): "skipped", ("case_x", -1): "skipped"})
    run.run_all("meet")
    assert metaflow.inputs("meet") == ["start/t"]


def test_a_parent_marked_as_success_by_hand_without_a_result_fails_for_good_and_says_what_to_clear(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("linear", {"middle": {"retry": Retry(user=3)}})
    run.states["start", -1] = "success"
    ended = run.run("middle")
    assert ended == "failed"
    assert "its parent start counts as successful in Airflow but has no Metaflow result" in str(ended.error)
    assert metaflow.ran() == []


@pytest.mark.parametrize(
    ("generation", "taken"), [("t-start-g1", "start/t-g1"), ("t", "start/t"), ("t-g1", "start/t-g1")]
)
def test_a_result_without_a_report_is_taken_from_the_datastore_the_newest_task_of_several(
    generation: str, taken: str, start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("linear")
    run.run_all("start")
    run_id = airflow_run_id("LinearFlow", "manual__1")
    if generation.startswith("t-start"):
        assert ("start", run_id, "t-start") in metaflow.results
    else:
        # An older release has begun the run.
        del metaflow.results["start", run_id, "t-start"]
    metaflow.results["start", run_id, generation] = (0, {"task_id": generation, "next": ["middle"]})
    del run.xcoms["start", -1, "metaflow"]
    run.run_all("middle")
    assert metaflow.inputs("middle") == [taken]
    assert metaflow.call("middle").inputs == (f"{run_id}/start/{generation}",)


def test_parallel_branches_and_all_other_tasks_of_a_run_have_ids_of_their_own(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("static_split")
    run.run_all("start", "zeta", "left", "right", "inner", "alpha", "alpha2", "outer", "end")
    ids = [call.task_id for call in metaflow.calls]
    assert len(set(ids)) == len(ids) == 9
    assert {"t-left", "t-right"} < set(ids)


def test_a_run_of_an_older_release_is_resumed(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("grouped")
    run.run_all("start", "body", "collect", "end")
    for step, run_id, name in list(metaflow.results):
        old = position_in_step(step, name)
        metaflow.results[step, run_id, old] = (0, {**metaflow.results.pop((step, run_id, name))[1], "task_id": old})
    since = len(metaflow.calls)
    resumed(run, start, "grouped", step="collect").run_all("start", "body", "collect", "end")
    assert [(call.task_id, (call.clone_of or "").partition("/")[2]) for call in metaflow.calls[since:]] == [
        ("t-start", "start/t"), ("t-body-0", "body/t-0"), ("t-body-1", "body/t-1"), ("t-collect", ""), ("t-end", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(("current", "own"), [("t", "t-g1"), ("t-middle", "t-middle-g1")])
def test_a_try_that_an_older_release_has_deferred_goes_on_under_its_task_id(
    start: Start, metaflow: MemoryMetaflow, current: str, own: str
) -> None:
    run = start("linear")
    run.run_all("start")
    for _ in range(6):
        run.run_all("middle")
        run.clear("middle")
    run.tries["middle", -1] += 1
    kwargs = {"progress": Progress(current, run_id=metaflow.calls[0].run_id).to_json()}
    deferred = comms.DeferTask.model_construct(next_method="resume", next_kwargs=kwargs)
    assert run.run("middle", resumed=deferred, event={}) == "success"
    assert metaflow.calls[-1].task_id == own


def test_a_wide_join_reads_all_outcomes_in_one_request(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.splits = 40
    run = start("grouped")
    run.run_all("start", "body")
    run.requests.clear()
    run.run_all("collect")
    assert metaflow.inputs("collect") == [f"body/t-{index}" for index in range(40)]
    assert sum(one.type == "GetXCom" and one.task_id == "body" for one in run.requests) == 0


def test_a_join_inside_a_foreach_reads_only_what_is_under_its_own_index(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("nested_foreach")
    run.run_all("start", "prepare", "fan", "fan-splits", "work", "work-splits", "leaf", "leaf2")
    run.requests.clear()
    assert run.run("deep_join", 2) == "success"
    assert metaflow.inputs("deep_join", "t-1-0") == ["leaf2/t-1-0-0", "leaf2/t-1-0-1"]
    read = {one.map_index for one in run.requests if one.type == "GetXCom" and one.task_id == "leaf2"}
    assert read == {4, 5}


def test_the_nodes_of_a_gang_are_all_inputs_of_its_join(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("parallel")
    run.run_all("start", "train", "gather")
    control = metaflow.call("train")
    assert (control.ubf_context, control.split_index) == ("ubf_control", 0)
    assert metaflow.inputs("gather") == ["train/t", "train/t_node_1"]
    assert metaflow.call("gather").ubf_context is None


# A run keeps the code that it started with.


def test_a_run_keeps_its_code_when_another_is_deployed_meanwhile(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow
) -> None:
    old, new = "0d" * 20, "4e" * 20
    run = FlowRun(make_dag("linear", code=old))
    run.run_all("start")
    run.dag = make_dag("linear", code=new)
    run.run_all("middle", "end")
    # In the flow's datastore: what tells of the old package is its hash alone.
    root = run.dag.task_dict["end"].manifest.command.datastore_root
    assert metaflow.codes == [f"{root}/LinearFlow/data/0d/{old}"] * 3
    run.clear("start")
    run.run_all("start")
    assert metaflow.codes[-1] == f"{root}/LinearFlow/data/4e/{new}"


def test_a_join_of_which_one_input_was_found_in_the_datastore_keeps_the_code_too(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow
) -> None:
    run = FlowRun(make_dag("static_split", code=OLD))
    run.run_all("start", "zeta", "left", "right")
    del run.xcoms["right", -1, "metaflow"]
    run.dag = make_dag("static_split", code=NEW)
    run.run_all("inner")
    assert metaflow.inputs("inner") == ["left/t", "right/t"]
    assert metaflow.codes[-1].endswith(OLD)


# Resume.


def resumed(run: FlowRun, make: Callable[..., FlowRun], shape: str, **asked: Any) -> FlowRun:
    origin = airflow_run_id(run.dag.dag_id, run.dag_run_id)
    return make(shape, dag_run_id="manual__2", conf={"metaflow_resume": {"origin": origin, **asked}})


def clones(metaflow: MemoryMetaflow, since: int) -> dict[str, str | None]:
    """Return the position of what each task that was run since then is a clone of."""

    def source(call: StepCall) -> str | None:
        step, name = (call.clone_of or "//").split("/")[1:]
        return f"{step}/{position_in_step(step, name)}" if call.clone_of else None

    return {f"{call.step.name}/{at(call)}": source(call) for call in metaflow.calls[since:]}


def test_a_resumed_run_takes_over_what_has_finished_and_runs_the_rest(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("grouped")
    run.run_all("start")
    assert run.run("body", 0) == "success"
    since = len(metaflow.calls)
    again = resumed(run, start, "grouped")
    again.run_all("start", "body", "collect", "end")
    assert clones(metaflow, since) == {
        "start/t": "start/t",
        "body/t-0": "body/t-0",
        "body/t-1": None,
        "collect/t": None,
        "end/t": None,
    }
    # Whatever is taken over belongs to the new run, and needs the parameters of its own.
    assert {call.run_id for call in metaflow.calls[since:]} == {airflow_run_id("GroupedFlow", "manual__2")}
    assert metaflow.parameters[since:] == [{"text": "default"}, None, None, None, None]


def test_a_step_to_run_again_and_all_after_it_are_run_though_they_had_finished(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("grouped")
    run.run_all("start", "body", "collect", "end")
    since = len(metaflow.calls)
    again = resumed(run, start, "grouped", step="collect")
    again.run_all("start", "body", "collect", "end")
    found = clones(metaflow, since)
    assert [name for name, source in found.items() if source is None] == ["collect/t", "end/t"]


def test_nothing_is_taken_over_after_a_task_that_was_run(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear")
    run.run_all("start", "middle", "end")
    origin = airflow_run_id("LinearFlow", "manual__1")
    del metaflow.results["middle", origin, "t-middle"]
    since = len(metaflow.calls)
    resumed(run, start, "linear").run_all("start", "middle", "end")
    assert clones(metaflow, since) == {"start/t": "start/t", "middle/t": None, "end/t": None}


def test_a_join_of_which_one_input_was_run_again_is_run_too(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("static_split")
    run.run_all("start", "zeta", "left", "right", "inner")
    del metaflow.results["left", airflow_run_id("StaticSplitFlow", "manual__1"), "t-left"]
    since = len(metaflow.calls)
    resumed(run, start, "static_split").run_all("start", "zeta", "left", "right", "inner")
    assert clones(metaflow, since) == {
        "start/t": "start/t",
        "zeta/t": "zeta/t",
        "left/t": None,
        "right/t": "right/t",
        "inner/t": None,
    }


def test_a_round_after_one_that_was_run_is_run_too(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = rounds("loop", 2)
    run = start("recursion")
    run.run_all("start", "loop")
    del metaflow.results["loop", airflow_run_id("RecursionFlow", "manual__1"), "t-loop"]
    since = len(metaflow.calls)
    resumed(run, start, "recursion").run_all("start", "loop")
    assert clones(metaflow, since) == {"start/t": "start/t", "loop/t": None, "loop/t-r1": None}


def test_of_a_task_with_several_generations_the_newest_is_taken_over(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear")
    run.run_all("start")
    for _ in range(7):
        run.run_all("middle")
        run.clear("middle")
    since = len(metaflow.calls)
    resumed(run, start, "linear").run_all("start", "middle")
    assert clones(metaflow, since) == {"start/t": "start/t", "middle/t": "middle/t-g1"}


def test_every_node_of_a_gang_is_taken_over_under_its_own_name(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("parallel")
    run.run_all("start", "train")
    since = len(metaflow.calls)
    again = resumed(run, start, "parallel")
    again.run_all("start", "train", "gather")
    assert clones(metaflow, since) == {
        "start/t": "start/t",
        "train/t": "train/t",
        "train/t_node_1": "train/t_node_1",
        "gather/t": None,
    }
    assert {call.ubf_context for call in metaflow.calls[since:]} == {None}
    assert metaflow.inputs("gather") == ["train/t", "train/t_node_1"]


def test_a_gang_that_others_have_run_is_taken_over_under_names_of_ours(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.foreign = {
        ("17", "start"): {"t-start": {"task_id": "1", "next": ["train"], "num_parallel": 2}},
        ("17", "train"): {"t-train": {"task_id": "5", "next": ["gather"], "gang": ["5", "6"]}},
        ("17", "gather"): {"t-gather": {"task_id": "7", "next": ["elsewhere"]}},
    }
    run = start("parallel", conf={"metaflow_resume": {"origin": "17"}})
    run.run_all("start", "train", "gather")
    assert {call.task_id: call.clone_of for call in metaflow.calls} == {
        "t-start": "17/start/1",
        "t-train": "17/train/5",
        "t-train_node_1": "17/train/6",
        # It leads elsewhere today.
        "t-gather": None,
    }
    assert metaflow.call("gather").inputs == tuple(
        f"{airflow_run_id('ParallelFlow', 'manual__1')}/train/{one}" for one in ("t-train", "t-train_node_1")
    )


def test_a_recursion_takes_over_its_rounds_up_to_the_last_that_finished(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = rounds("loop", 3)
    run = start("recursion")
    run.run_all("start", "loop")
    del metaflow.results["loop", airflow_run_id("RecursionFlow", "manual__1"), "t-loop-r2"]
    since = len(metaflow.calls)
    resumed(run, start, "recursion").run_all("start", "loop")
    assert clones(metaflow, since) == {
        "start/t": "start/t",
        "loop/t": "loop/t",
        "loop/t-r1": "loop/t-r1",
        "loop/t-r2": None,
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("airflow-1", "metaflow_resume must be an object with the key 'origin'"),
        ({"step": "middle"}, "metaflow_resume must be an object with the key 'origin'"),
        ({"origin": "airflow-1", "given": "alpha"}, "the key 'given' of metaflow_resume must be the list"),
        ({"origin": 7}, "metaflow_resume must be an object with the key 'origin'"),
        ({"origin": "airflow-1", "step": "mddle"}, "has no step 'mddle' to run again"),
    ],
)
def test_a_wrong_resume_fails_for_good_before_anything_runs(
    start: Start, metaflow: MemoryMetaflow, asked: Any, message: str
) -> None:
    ended = start("linear", {"start": {"retry": Retry(user=1)}}, conf={"metaflow_resume": asked}).run("start")
    assert ended == "failed"
    assert message in str(ended.error)
    assert metaflow.calls == []


# Events.


def test_a_step_publishes_its_end_with_the_task_that_ended(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("linear")
    for step in ("start", "middle"):
        run.run_all(step)
    ended = run.run("end")
    run_id = airflow_run_id("LinearFlow", "manual__1")
    (event,) = ended.message.outlet_events
    assert event["dest_asset_key"]["name"] == "x-metaflow-event://metaflow.LinearFlow.end"
    assert event["extra"]["pathspec"] == f"LinearFlow/{run_id}/end/t-end"
    assert (event["extra"]["step_name"], event["extra"]["run_id"]) == ("end", run_id)


def test_a_run_that_events_started_takes_parameters_from_them_and_its_tasks_see_them(
    start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LocalCompute] = []
    run_task = LocalCompute.run
    monkeypatch.setattr(LocalCompute, "run", lambda compute, *a: (seen.append(compute), run_task(compute, *a))[1])
    event = ("x-metaflow-event://tests.OnEventFlow", {"id": "7", "size": 1.5, "text": "told", "table": {"a": 1}})
    run = start("events/on_event", events=[event, ("somebody-elses-asset", {})])
    run.run_all("start")
    assert metaflow.parameters == [{"alpha": "1.5", "text": "told", "table": '{"a": 1}', "untouched": "5"}]
    (trigger,) = json.loads(seen[0].variables["METAFLOW_ORCHESTRATOR_TRIGGERS"])
    assert (trigger["name"], trigger["id"], trigger["type"]) == ("tests.OnEventFlow", "7", "event")


# What the operator tells of itself, and what it leaves behind.


def note_closing(monkeypatch: pytest.MonkeyPatch) -> list[LocalCompute]:
    closed: list[LocalCompute] = []

    def close(compute: LocalCompute) -> None:
        closed.append(compute)

    monkeypatch.setattr(LocalCompute, "close", close)
    return closed


def test_an_operator_tells_its_last_task_and_its_lineage(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("grouped")
    run.run_all("start", "body")
    done = run.run("collect").operator
    run_id = airflow_run_id("GroupedFlow", "manual__1")
    assert done.metaflow_pathspec == f"GroupedFlow/{run_id}/collect/t-collect"
    lineage = done.get_openlineage_facets_on_failure(None)
    assert [one.name for one in lineage.outputs] == [f"GroupedFlow/{run_id}/collect/t-collect"]
    assert [one.name for one in lineage.inputs] == [f"GroupedFlow/{run_id}/body/t-body-{index}" for index in (0, 1)]
    fresh = run.dag.task_dict["end"]
    assert fresh.metaflow_pathspec is None
    assert fresh.get_openlineage_facets_on_complete(None).outputs == []


@pytest.mark.parametrize("step", ["start", "middle"])
def test_whatever_happens_the_process_of_a_task_is_closed(
    start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    closed = note_closing(monkeypatch)
    metaflow.outcome = fails("middle/t")
    run = start("linear")
    run.run_all("start")
    closed.clear()
    assert run.run(step) == ("failed" if step == "middle" else "success")
    assert closed


def test_a_kill_closes_the_process_of_the_task_that_runs(
    start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = note_closing(monkeypatch)
    seen: list[int] = []

    def killed(call: StepCall, document: Document) -> Document:
        # The signal of a worker that ends the task reaches the operator in the midst of it.
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(len(closed))
        return document

    metaflow.outcome = killed
    start("linear").run("start")
    assert seen == [1]
