"""The timeout of a sensor that waits in the triggerer."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.task_runs import FlowRun

from airflow_provider_metaflow import MetaflowArtifactSensor
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from airflow_provider_metaflow.sensors import metaflow


def test_a_condition_that_does_not_hold_waits_for_what_is_left_of_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each deferral had the whole timeout again, so that the sensor never ended."""
    clock = [1000.0]
    monkeypatch.setattr(metaflow.time, "time", lambda: clock[0])
    answer: dict[str, Any] = {"exists": True, "value": 1}
    monkeypatch.setattr(MetaflowHook, "ask", lambda *_, **__: answer)
    with DAG("outer", schedule=None) as dag:
        MetaflowArtifactSensor(
            task_id="wait",
            pathspec="F/1/start",
            artifact="x",
            condition=lambda value: bool(value > 1),
            deferrable=True,
            timeout=60,
            poke_interval=5,
        )
    run = FlowRun(dag)
    ended = run.run("wait")
    left = []
    for later in (1020.0, 1050.0, 1070.0):
        assert ended == "deferred"
        left.append(ended.message.trigger_timeout.total_seconds())
        clock[0] = later
        ended = run.run("wait", resumed=ended.message, event=answer)
    # Airflow ends the sensor, as timed out or softly failed, as soon as nothing is left.
    assert [*left, ended.message.trigger_timeout.total_seconds()] == [60, 40, 10, 0]
    assert run.run("wait", resumed=ended.message, event={"exists": True, "value": 2}) == "success"
