from __future__ import annotations

from typing import Any

import pytest
from tests.unit.containers.test_pods import CALL, MANIFEST

from metaflow_orchestration.containers.batch_jobs import (
    container_overrides,
    job_definition,
    job_name,
    job_tags,
    node_overrides,
    task_environment,
)
from metaflow_orchestration.exceptions import UnsupportedFeatureError

PLAIN: dict[str, Any] = {
    "image": "python:3.11",
    "cpu": "1",
    "gpu": "0",
    "memory": "4096",
    "iam_role": "arn:role",
    "execution_role": "arn:execution",
    "queue": "q",
}


def definition(platform: str = "EC2", *, gang: bool = False, **attributes: Any) -> dict[str, Any]:
    return job_definition(
        {**PLAIN, **attributes}, command=["python"], platform=platform, gang=gang, flow="F", step="train"
    )


def test_equal_settings_give_one_definition_and_resources_are_no_part_of_it() -> None:
    assert definition()["jobDefinitionName"] == definition(cpu="8", memory="9", gpu="1")["jobDefinitionName"]
    assert definition()["jobDefinitionName"] != definition(image="other")["jobDefinitionName"]
    assert len(definition()["jobDefinitionName"]) <= 128


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"shared_memory": "64"}, {"linuxParameters": {"sharedMemorySize": 64}}),
        ({"max_swap": 10, "swappiness": "5"}, {"linuxParameters": {"swappiness": 5, "maxSwap": 10}}),
        (
            {"use_tmpfs": True, "tmpfs_path": "/t"},
            {"linuxParameters": {"tmpfs": [{"containerPath": "/t", "size": 2048, "mountOptions": ["defaults"]}]}},
        ),
        (
            {"inferentia": 1},
            {
                "linuxParameters": {
                    "devices": [
                        {
                            "containerPath": "/dev/neuron0",
                            "hostPath": "/dev/neuron0",
                            "permissions": ["READ", "WRITE"],
                        }
                    ]
                }
            },
        ),
        ({"efa": 1}, {"linuxParameters": {"devices": [{"hostPath": "/dev/infiniband/uverbs0"}]}}),
        (
            {"host_volumes": ["/a.b/c:/x"], "efs_volumes": "fs-1"},
            {
                "volumes": [
                    {"name": "_a_b_c", "host": {"sourcePath": "/a.b/c"}},
                    {
                        "name": "efs_fs-1",
                        "efsVolumeConfiguration": {"fileSystemId": "fs-1", "transitEncryption": "ENABLED"},
                    },
                ],
                "mountPoints": [
                    {"sourceVolume": "_a_b_c", "containerPath": "/x"},
                    {"sourceVolume": "efs_fs-1", "containerPath": "/mnt/fs-1"},
                ],
            },
        ),
        (
            {"log_driver": "awslogs", "log_options": ["awslogs-group:g:h"]},
            {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g:h"}}},
        ),
        ({"privileged": True}, {"privileged": True}),
    ],
)
def test_an_attribute_ends_up_in_the_definition(attributes: dict[str, Any], expected: dict[str, Any]) -> None:
    container = definition(**attributes)["containerProperties"]
    assert {name: container[name] for name in expected} == expected


def test_fargate_gets_its_role_network_and_disk() -> None:
    made = definition("FARGATE", ephemeral_storage=30)
    assert made["platformCapabilities"] == ["FARGATE"]
    container = made["containerProperties"]
    assert container["executionRoleArn"] == "arn:execution"
    assert container["ephemeralStorage"] == {"sizeInGiB": 30}
    assert "linuxParameters" not in container


@pytest.mark.parametrize(
    ("platform", "gang", "attributes", "message"),
    [
        ("FARGATE", True, {}, "flow F step train: Fargate runs no multi-node jobs"),
        ("FARGATE", False, {"use_tmpfs": True}, "Fargate cannot honour 'use_tmpfs'"),
        ("FARGATE_SPOT", False, {"execution_role": None}, "METAFLOW_ECS_FARGATE_EXECUTION_ROLE"),
        ("EC2", False, {"ephemeral_storage": 30}, "for Fargate only"),
        ("EC2", False, {"iam_role": None}, "METAFLOW_ECS_S3_ACCESS_IAM_ROLE"),
    ],
)
def test_what_the_platform_cannot_honour_is_refused_with_the_step(
    platform: str, gang: bool, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedFeatureError, match=message):
        definition(platform, gang=gang, **attributes)


def test_a_gang_has_one_definition_whatever_its_size() -> None:
    made = definition(gang=True)
    assert made["type"] == "multinode"
    assert [one["targetNodes"] for one in made["nodeProperties"]["nodeRangeProperties"]] == ["0:"]
    overrides = node_overrides(container_overrides(PLAIN, {"A": "1"}), 5)
    assert overrides["numNodes"] == 5
    assert overrides["nodePropertyOverrides"][0]["containerOverrides"]["environment"] == [{"name": "A", "value": "1"}]


def test_overrides_hold_resources_and_no_gpu_that_was_not_asked_for() -> None:
    plain = container_overrides(PLAIN, {})
    assert plain["resourceRequirements"] == [{"value": "1", "type": "VCPU"}, {"value": "4096", "type": "MEMORY"}]
    asked = container_overrides({**PLAIN, "cpu": "0.5", "gpu": "2", "memory": "100.0"}, {})
    assert [one["value"] for one in asked["resourceRequirements"]] == ["0.5", "100", "2"]


def test_names_and_tags_tell_the_task() -> None:
    assert job_name(MANIFEST, CALL).startswith("My_Flow-train_all-t-3-0-")
    assert job_tags(MANIFEST, CALL, {"aws_batch_tags": {"team": 1}}) == {"team": "1"}


def test_a_task_knows_its_platform() -> None:
    assert task_environment(PLAIN) == {"METAFLOW_RUNTIME_ENVIRONMENT": "aws-batch"}
