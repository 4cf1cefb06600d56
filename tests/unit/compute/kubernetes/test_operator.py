"""A process that has lost its worker leaves the pod to the next try."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_metaflow.compute.kubernetes.gang_operator import MetaflowGangOperator
from airflow_provider_metaflow.compute.kubernetes.operator import MetaflowPodOperator
from metaflow_orchestration.containers.gang import JOB_LABEL
from metaflow_orchestration.exceptions import StepFailedError


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
    monkeypatch.setattr(os, "getppid", lambda: 0)
    made.on_kill()
    assert made.process_pod_deletion(POD) is False
    with pytest.raises(StepFailedError, match="worker that watched its pod is gone"):
        MetaflowPodOperator.cleanup(made, POD, POD)
    assert client.deleted == []


class Listing(Client):
    """Knows one pod until it is deleted."""

    def __init__(self, phase: str, attempt: int) -> None:
        super().__init__()
        metadata = SimpleNamespace(
            name="pod",
            namespace="flows",
            annotations={"metaflow/attempt": str(attempt)},
            labels={JOB_LABEL: "pod", "try_number": "1"},
            deletion_timestamp=None,
        )
        self.pod = SimpleNamespace(metadata=metadata, status=SimpleNamespace(phase=phase))

    def list_namespaced_pod(self, **_: Any) -> Any:
        return SimpleNamespace(items=[] if self.deleted else [self.pod])


@pytest.mark.parametrize(
    ("phase", "attempt", "attaches"),
    [
        ("Running", 2, True),
        ("Running", 3, True),
        ("Running", 1, False),
        ("Succeeded", 2, True),
        ("Succeeded", 1, False),
    ],
)
def test_the_pod_of_an_attempt_since_the_last_clear_is_attached_to_and_an_older_one_is_deleted(
    operator: tuple[Any, Client], phase: str, attempt: int, attaches: bool
) -> None:
    made, _ = operator
    client = Listing(phase, attempt)
    manager = SimpleNamespace(delete_pod=lambda pod: client.delete_namespaced_pod(pod.metadata.name, "flows"))
    made.__dict__.update(client=client, jobs=client, pod_manager=manager, _first_attempt=2)
    made._build_find_pod_label_selector = lambda *_, **__: ""
    found = made._find_current("flows", {"ti": SimpleNamespace(try_number=3)})
    assert found is (client.pod if attaches else None)
    assert len(client.deleted) == (0 if attaches else 1)
