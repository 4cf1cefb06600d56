"""A process that has lost its worker leaves the pod to the next try."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_metaflow.compute.gang import JOB_LABEL
from airflow_provider_metaflow.exceptions import StepFailedError
from airflow_provider_metaflow.operators.pod import MetaflowGangOperator, MetaflowPodOperator


class Client:
    """Notes what is deleted."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    def delete_namespaced_pod(self, name: str, namespace: str, **_: Any) -> None:
        self.deleted.append(f"{namespace}/{name}")

    delete_namespaced_job = delete_namespaced_pod


POD = SimpleNamespace(
    metadata=SimpleNamespace(name="pod", namespace="flows", labels={JOB_LABEL: "job"}),
    status=SimpleNamespace(phase="Running"),
)


@pytest.fixture(params=[MetaflowPodOperator, MetaflowGangOperator])
def operator(request: pytest.FixtureRequest) -> tuple[Any, Client]:
    more = {"nodes": 2} if request.param is MetaflowGangOperator else {}
    made = request.param(task_id="step", **more)
    client = Client()
    manager = SimpleNamespace(delete_pod=lambda pod: client.delete_namespaced_pod(pod.metadata.name, "flows"))
    made.__dict__.update(client=client, jobs=client, pod=POD, pod_manager=manager)
    return made, client


def test_a_killed_task_deletes_its_pod(operator: tuple[Any, Client]) -> None:
    made, client = operator
    made.on_kill()
    assert len(client.deleted) == 1


def test_an_orphan_deletes_nothing(operator: tuple[Any, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    made, client = operator
    monkeypatch.setattr(os, "getppid", lambda: 1)
    made.on_kill()
    assert made.process_pod_deletion(POD) is False
    with pytest.raises(StepFailedError, match="worker that watched its pod is gone"):
        MetaflowPodOperator.cleanup(made, POD, POD)
    assert client.deleted == []


@pytest.mark.parametrize(
    ("phase", "attempt", "first", "attaches"),
    [
        ("Succeeded", "1", 0, True),
        ("Succeeded", "1", 2, False),  # it ran before the task was cleared
        ("Succeeded", "1", None, False),  # the task was cleared just now
        ("Failed", "1", 0, False),
    ],
)
def test_a_success_that_nobody_has_seen_counts_until_the_task_is_cleared(
    phase: str, attempt: str, first: int | None, attaches: bool
) -> None:
    pod: Any = SimpleNamespace(
        metadata=SimpleNamespace(name="pod", annotations={"metaflow/attempt": attempt}),
        status=SimpleNamespace(phase=phase),
    )
    assert MetaflowPodOperator(task_id="step", min_attempt=first)._has_unseen_success(pod) is attaches
