"""A DAG run that is deleted and made again under its old id: a run of its own, which reads nothing of the old one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.task_runs import FlowRun, MemoryMetaflow, at

from metaflow_orchestration.graph.identity import airflow_run_id
from metaflow_orchestration.graph.model import Retry
from metaflow_orchestration.run.commands import StepCall

Start = Callable[..., FlowRun]

FIRST = airflow_run_id("GroupedFlow", "manual__1")
STEPS = ("start", "body", "collect", "end")


def runs_of(metaflow: MemoryMetaflow, since: int = 0) -> set[str]:
    """Return the Metaflow runs in which tasks were run."""
    return {call.run_id for call in metaflow.calls[since:]}


def fails_once(*tasks: str) -> Callable[[StepCall, dict[str, Any]], dict[str, Any]]:
    """Let the first attempts of some tasks fail."""
    left = list(tasks)

    def outcome(call: StepCall, document: dict[str, Any]) -> dict[str, Any]:
        name = f"{call.step.name}/{at(call)}"
        if name in left:
            left.remove(name)
            raise RuntimeError(name)
        return document

    return outcome


def test_a_run_that_is_made_again_has_a_metaflow_run_and_parameters_of_its_own(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    for number, text in enumerate(("first", "second", "third"), start=1):
        since = len(metaflow.calls)
        run = start("grouped", conf={"text": text})
        run.run_all(*STEPS)
        own = FIRST if number == 1 else f"{FIRST}-{number}"
        assert runs_of(metaflow, since) == {own}
        assert run.value("end") == f"GroupedFlow/{own}"
        assert run.value("start", key="metaflow_run") == own
        assert metaflow.ran()[since:] == ["start/t", "body/t-0", "body/t-1", "collect/t", "end/t"]
        assert metaflow.inputs("start") == ["_parameters/t-params"]
        assert metaflow.call("start").inputs[0].startswith(f"{own}/")


def test_a_retry_in_a_run_that_is_made_again_takes_over_no_result_of_the_old_run(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    """The old run needed three attempts; its higher attempts won over those of the new run."""
    steps = {name: {"retry": Retry(user=2)} for name in ("start", "body", "collect", "end")}
    metaflow.outcome = fails_once("start/t", "start/t", "body/t-0", "body/t-0", "end/t")
    old = start("grouped", steps)
    for name in STEPS:
        for index in old.map_indexes(name):
            while old.run(name, index) == "up_for_retry":
                pass
    metaflow.outcome = fails_once("start/t", "body/t-0", "end/t")
    since = len(metaflow.calls)
    new = start("grouped", steps)
    for name in STEPS:
        for index in new.map_indexes(name):
            while (ended := new.run(name, index)) == "up_for_retry":
                pass
            assert ended == "success"
    assert runs_of(metaflow, since) == {f"{FIRST}-2"}
    assert metaflow.ran()[since:].count("start/t") == 2
    assert metaflow.ran()[since:].count("body/t-0") == 2
    assert metaflow.ran()[since:].count("end/t") == 2


@pytest.mark.parametrize("dies", ["before anything was run", "while the task ran"])
def test_a_later_try_of_the_start_step_never_goes_on_with_the_old_run(
    start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    steps = {"start": {"retry": Retry(user=2)}}
    start("grouped", steps, conf={"text": "old"}).run_all(*STEPS)
    since = len(metaflow.calls)
    new = start("grouped", steps, conf={"text": "new"})
    if dies == "while the task ran":
        metaflow.outcome = fails_once("start/t")
        assert new.run("start") == "up_for_retry"
    else:
        # The worker was lost before it came to the operator.
        new.tries["start", -1] += 1
    new.run_all(*STEPS)
    assert runs_of(metaflow, since) == {f"{FIRST}-2"}
    assert metaflow.parameters[since] == {"text": "new"}
    assert "start/t" in metaflow.ran()[since:]


def test_a_cleared_start_step_goes_on_in_its_run_as_long_as_the_parameters_are_the_same(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("grouped", conf={"text": "same"})
    run.run_all(*STEPS)
    for name in reversed(STEPS):
        run.clear(name)
    run.run_all(*STEPS)
    assert runs_of(metaflow) == {FIRST}
    assert metaflow.ran("start") == ["t", "t"]


def test_a_run_that_a_backfill_clears_with_another_configuration_has_a_metaflow_run_of_its_own(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    run = start("grouped", conf={"text": "old"})
    run.run_all(*STEPS)
    for name in reversed(STEPS):
        run.clear(name)
    run.conf = {"text": "new"}
    since = len(metaflow.calls)
    run.run_all(*STEPS)
    assert runs_of(metaflow, since) == {f"{FIRST}-2"}
    assert metaflow.parameters[since] == {"text": "new"}
    # What is cleared alone later stays in it.
    run.clear("collect")
    run.run_all("collect")
    assert metaflow.calls[-1].run_id == f"{FIRST}-2"


def test_a_join_of_results_from_two_runs_fails_and_names_what_to_clear(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("static_split")
    run.run_all("start", "zeta", "left", "right")
    first = airflow_run_id("StaticSplitFlow", "manual__1")
    run.xcoms["right", -1, "metaflow"] = {**run.xcoms["right", -1, "metaflow"], "run_id": f"{first}-2"}
    ended = run.run("inner")
    assert ended == "failed"
    text = str(ended.error)
    assert "has results of two Metaflow runs" in text
    assert f"Clear left and what comes after it, so that it runs in {first}-2" in text


@pytest.mark.parametrize(
    "run_id",
    [airflow_run_id("GroupedFlow", "manual__2"), f"{FIRST}-1", f"{FIRST}-02", f"{FIRST}-2/x", "7", f"{FIRST}\n"],
)
def test_an_edited_xcom_leads_to_no_run_of_another_dag_run(start: Start, metaflow: MemoryMetaflow, run_id: str) -> None:
    run = start("grouped")
    run.run_all("start")
    run.xcoms["start", -1, "metaflow"] = {**run.xcoms["start", -1, "metaflow"], "run_id": run_id}
    ended = run.run("body", 0)
    assert ended == "failed"
    assert "is no run of this DAG run" in str(ended.error)
    assert metaflow.ran("body") == []


def test_a_start_step_marked_as_success_by_hand_brings_no_result_of_the_old_run(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    start("linear").run_all("start", "middle", "end")
    new = start("linear")
    new.states["start", -1] = "success"
    ended = new.run("middle")
    assert ended == "failed"
    assert "clear start, so that it runs" in str(ended.error)
    assert metaflow.ran("middle") == ["t"]


def test_a_run_of_a_release_that_kept_no_record_is_not_read_by_one_made_again(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    start("grouped").run_all(*STEPS)
    metaflow.records.clear()
    since = len(metaflow.calls)
    start("grouped").run_all(*STEPS)
    assert runs_of(metaflow, since) == {f"{FIRST}-2"}


def test_a_run_of_a_release_that_kept_no_record_goes_on_after_a_clear(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("grouped")
    run.run_all(*STEPS)
    metaflow.records.clear()
    run.clear("start")
    run.run_all("start")
    assert runs_of(metaflow) == {FIRST}


def test_a_flow_inside_a_larger_dag_is_told_from_its_old_run_too(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    from airflow_provider_metaflow import MetaflowTaskGroup

    make_dag("grouped")
    with DAG("outer", schedule=None) as dag:
        parameters = {"text": "{{ dag_run.conf.t }}"}
        MetaflowTaskGroup(tmp_path / "grouped.metaflow.json", group_id="one", parameters=parameters)
    for text in ("old", "new"):
        run = FlowRun(dag, conf={"t": text})
        run.run_all(*(f"one.{name}" for name in STEPS))
    assert [given["text"] for given in metaflow.parameters if given] == ["old", "new"]
    assert run.value("one.end") == f"GroupedFlow/{airflow_run_id('outer', 'manual__1', 'one.')}-2"


def test_a_deployment_in_between_does_not_matter(make_dag: Callable[..., DAG], metaflow: MemoryMetaflow) -> None:
    old, new = "0d" * 20, "4e" * 20
    FlowRun(make_dag("linear", code=old)).run_all("start", "middle", "end")
    FlowRun(make_dag("linear", code=new)).run_all("start", "middle", "end")
    assert [code[-40:] for code in metaflow.codes] == [old] * 3 + [new] * 3


def test_the_record_in_the_datastore_holds_digests_and_no_values(start: Start, metaflow: MemoryMetaflow) -> None:
    start("grouped", conf={"text": "s3cret-value"}).run_all("start")
    assert metaflow.records[FIRST]["runs"][0]["run_id"] == FIRST
    assert "s3cret-value" not in json.dumps(metaflow.records)


def test_a_record_that_cannot_be_read_ends_the_start_step(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.records[FIRST] = {"runs": [{"run_id": 7}]}
    ended = start("grouped").run("start")
    assert ended == "failed"
    assert "cannot be read" in str(ended.error)
    assert metaflow.calls == []
