"""Why a pod failed; the documents are cut from what a real Kubernetes 1.34 has told."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_metaflow.compute.kubernetes.failure import exit_code, failure_reason, outcome_message


def pod(status: dict[str, Any], limit: str | None = None) -> dict[str, Any]:
    resources = {"limits": {"memory": limit}} if limit else {}
    return {"spec": {"containers": [{"name": "base", "resources": resources}]}, "status": status}


def ended(**terminated: Any) -> dict[str, Any]:
    return {"phase": "Failed", "containerStatuses": [{"name": "base", "state": {"terminated": terminated}}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "base", "state": state}]}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            pod(ended(exitCode=137, reason="OOMKilled"), limit="100M"),
            "it ran out of memory (OOMKilled); its limit is 100M",
        ),
        (
            pod(ended(exitCode=137, reason="OOMKilled")),
            "it ran out of memory (OOMKilled); its limit is that of its node",
        ),
        (pod(ended(exitCode=1, reason="Error")), "it exited with 1"),
        (
            pod(ended(exitCode=1, message='{"failed": "step", "last_lines": ["x", "ValueError: no"]}')),
            "it exited with 1: ValueError: no",
        ),
        (pod(ended(exitCode=2, message="a\nthe image has no python\n")), "it exited with 2: the image has no python"),
        (pod(ended(exitCode=137, reason="Error")), "it was killed by SIGKILL"),
        (
            pod({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}),
            "Kubernetes evicted its pod: low on disk",
        ),
        (
            pod({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}),
            "it ran longer than its time limit: too long",
        ),
        (
            pod({**ended(exitCode=137), "reason": "DeadlineExceeded"}),
            "it ran longer than its time limit",
        ),
        (pod({"phase": "Failed", "reason": "NodeLost"}), "the node that it ran on was lost"),
        (pod(waiting("ErrImageNeverPull", "no image x")), "its image cannot be pulled (ErrImageNeverPull): no image x"),
        (pod(waiting("ImagePullBackOff", "404")), "its image cannot be pulled (ImagePullBackOff): 404"),
        (pod(waiting("CreateContainerConfigError", 'secret "s" not found')),
         'its container does not start (CreateContainerConfigError): secret "s" not found'),
        (
            pod(
                {
                    "phase": "Pending",
                    "conditions": [
                        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
                    ],
                }
            ),
            "no node can take its pod (Unschedulable): 0/1 nodes",
        ),
        (pod({"phase": "Failed"}), "its pod failed, and Kubernetes does not say why"),
    ],
)  # fmt: skip
def test_the_reason_is_told(found: dict[str, Any], reason: str) -> None:
    assert failure_reason(found) == reason


def test_a_volume_that_cannot_be_mounted_is_told_by_the_events() -> None:
    events = [
        {"type": "Normal", "reason": "Scheduled", "message": "assigned"},
        {"type": "Warning", "reason": "FailedMount", "message": "claim not found"},
    ]
    assert failure_reason(pod(waiting("ContainerCreating")), events) == "its pod did not start: claim not found"


def test_the_outcome_is_the_message_of_a_container_that_ended() -> None:
    assert outcome_message(pod(ended(exitCode=0, message='{"task_id": "t"}'))) == {"task_id": "t"}
    assert outcome_message(pod(ended(exitCode=0, message="no json"))) is None
    assert outcome_message(pod({})) is None
    assert exit_code(pod(ended(exitCode=3))) == 3
    assert exit_code(pod({"phase": "Running"})) is None
