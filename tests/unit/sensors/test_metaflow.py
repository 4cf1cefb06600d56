"""Sensors ask again while there is no answer, end with the right one, and fail where waiting is of no use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from airflow_provider_metaflow.sensors.metaflow import MetaflowArtifactSensor, MetaflowRunSensor
from metaflow_orchestration.exceptions import MetaflowQueryError, RunFailedError

GOES_ON, DONE = {"exists": True, "finished": False}, {"exists": True, "finished": True, "successful": True}
FAILED = {**DONE, "successful": False}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Metaflow answers, one after the other; an error is raised."""
    left: list[Any] = []

    def ask(hook: MetaflowHook, **question: Any) -> Any:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(MetaflowHook, "ask", ask)
    return left


def run_sensor(**arguments: Any) -> MetaflowRunSensor:
    return MetaflowRunSensor(task_id="wait", run="F/1", poke_interval=0.01, timeout=30, **arguments)


def test_a_sensor_asks_until_the_run_has_finished(answers: list[Any]) -> None:
    answers += [GOES_ON, MetaflowQueryError("busy", transient=True), DONE, FAILED]
    run_sensor(deferrable=False).execute({})  # type: ignore[arg-type]
    assert answers == [FAILED]


def test_a_run_that_failed_fails_the_sensor(answers: list[Any]) -> None:
    answers.append(FAILED)
    with pytest.raises(RunFailedError, match="the run F/1 has failed"):
        run_sensor().poke({})  # type: ignore[arg-type]


def test_an_error_that_stays_ends_the_waiting(answers: list[Any]) -> None:
    answers.append(MetaflowQueryError("no such connection", transient=False))
    with pytest.raises(MetaflowQueryError, match="no such connection"):
        run_sensor().poke({})  # type: ignore[arg-type]


def test_a_run_of_a_deployment_is_asked_of_its_orchestrator() -> None:
    assert run_sensor().question() == {"op": "run", "pathspec": "F/1"}
    asked = {"op": "status", "pathspec": "F/1", "deployment": "d"}
    assert run_sensor(deployment="d").question() == {**asked, "impl": "airflow"}
    assert run_sensor(deployment="d", impl="sfn").question() == {**asked, "impl": "sfn"}
    assert run_sensor().metaflow_pathspec == "F/1"


def test_a_deferrable_sensor_waits_in_the_triggerer_only_if_it_must(answers: list[Any]) -> None:
    answers += [DONE, GOES_ON]
    sensor = run_sensor(deferrable=True, metaflow_conn_id="c")
    assert sensor.execute({}) is None  # type: ignore[arg-type]
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})  # type: ignore[arg-type]
    _, arguments = deferred.value.trigger.serialize()
    assert arguments == {
        "metaflow_conn_id": "c", "question": sensor.question(), "poll_interval": 0.01, "delay": 0.0,
        "terminate": False,
    }  # fmt: skip
    assert deferred.value.method_name == "execute_complete"
    assert timedelta(seconds=25) < deferred.value.timeout <= timedelta(seconds=30)


def test_after_the_triggerer_the_answer_decides() -> None:
    sensor = run_sensor(deferrable=True)
    sensor.execute_complete({}, DONE)  # type: ignore[arg-type]
    with pytest.raises(MetaflowQueryError, match="no answer"):
        sensor.execute_complete({}, {"error": "no answer"})  # type: ignore[arg-type]
    with pytest.raises(RunFailedError):
        sensor.execute_complete({}, FAILED)  # type: ignore[arg-type]
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute_complete({}, GOES_ON)  # type: ignore[arg-type]
    # The same answer at once would keep the triggerer busy.
    assert deferred.value.trigger.serialize()[1]["delay"] == 0.01


def test_an_artifact_is_waited_for_until_it_meets_the_condition() -> None:
    def sensor(**arguments: Any) -> MetaflowArtifactSensor:
        return MetaflowArtifactSensor(task_id="wait", pathspec="F/1", artifact="score", **arguments)

    assert sensor(max_bytes=7).question() == {
        "op": "artifact", "pathspec": "F/1", "name": "score", "max_bytes": 7, "value": False,
    }  # fmt: skip
    assert not sensor().holds({"exists": False})
    assert sensor().holds({"exists": True})
    high = sensor(condition=lambda score: score > 3)
    assert high.question()["value"] is True
    assert not high.holds({"exists": True, "value": 3})
    assert high.holds({"exists": True, "value": 4})
