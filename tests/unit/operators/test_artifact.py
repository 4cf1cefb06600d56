"""The operator that reads an artifact into an XCom."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.task_runs import FlowRun

from airflow_provider_metaflow import artifact
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook


@pytest.mark.parametrize(
    ("answer", "state"),
    [({"exists": True, "value": {"a": [1]}}, "success"), ({"exists": False, "message": "F/1 has no x"}, "failed")],
)
def test_a_small_artifact_is_an_xcom_and_a_missing_one_an_error(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], state: str
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        MetaflowHook, "ask", lambda hook, op, **q: (asked.append((hook.metaflow_conn_id, op, q)), answer)[1]
    )
    with DAG("outer", schedule=None) as dag:
        artifact("F/{{ dag.dag_id }}", "x", metaflow_conn_id="mine", max_bytes=10)
    run = FlowRun(dag)
    done = run.run("artifact-x")
    assert asked == [("mine", "artifact", {"pathspec": "F/outer", "name": "x", "max_bytes": 10})]
    assert done.state == state
    assert run.value("artifact-x") == answer.get("value")
    assert state == "success" or "F/1 has no x. Wait for it with MetaflowArtifactSensor." in str(done.error)
