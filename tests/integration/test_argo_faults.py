"""Runs on Argo when something of the platform dies: the controller, the API server, the object store, a pod."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.argo import SYSTEM, Argo, Workflow
from tests.support.kubernetes import NAMESPACE

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes]


@pytest.fixture(scope="module")
def patient(argo: Argo, flows: Path) -> Iterator[Argo]:
    argo.create(flows / "containers/patient.py", name="patient")
    yield argo
    argo.clean()


def waiting_run(argo: Argo) -> Workflow:
    """A run whose only pod waits for an object."""
    run = argo.start("patient", "PatientFlow")
    argo.wait_until(lambda: run.has("started-0"), timeout=120)
    return run


@pytest.mark.built_cluster
def test_a_run_survives_controller_api_server_and_object_store(patient: Argo) -> None:
    run = waiting_run(patient)
    patient.cluster.kubectl("-n", SYSTEM, "delete", "pod", "-l", "app=workflow-controller", "--force")
    patient.cluster.restart_api_server()
    with patient.store.outage():
        time.sleep(5)
    run.put("go")
    run.wait()
    assert run.artifacts()["start"][((), ())]["attempt"] == 0
    assert not run.has("started-1")


@pytest.mark.extended
@pytest.mark.parametrize(
    "end",
    [
        "deleted",
        pytest.param("killed", marks=pytest.mark.built_cluster),
    ],
)
def test_a_pod_that_is_ended_by_somebody_is_a_failed_attempt(patient: Argo, end: str) -> None:
    run = waiting_run(patient)
    (pod,) = patient.cluster.get("pods", "-l", f"workflows.argoproj.io/workflow={run.name}")
    if end == "deleted":
        patient.cluster.kubectl("-n", NAMESPACE, "delete", "pod", pod["metadata"]["name"], "--force")
    else:
        patient.cluster.kill_container(pod["metadata"]["name"])
    run.put("go")
    run.wait()
    assert run.artifacts()["start"][((), ())]["attempt"] == 1
