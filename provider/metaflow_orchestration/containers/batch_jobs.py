"""Jobs and job definitions of AWS Batch, from the attributes of ``@batch``: plain data in the words of its API.

The mapping is that of ``metaflow.plugins.aws.batch.batch_client``. Imports neither Airflow nor boto3.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import UnsupportedFeatureError
from metaflow_orchestration.graph.identity import position_in_step
from metaflow_orchestration.run.commands import StepCall

from .objects import BatchObject

MAX_OVERRIDES_BYTES = 8192
"""Upper limit of the container overrides of a job (AWS Batch, SubmitJob)."""

ARRAY_SIZES = range(2, 10_001)
"""How many children an array job may have (AWS Batch, service quotas)."""

_FARGATE = ("FARGATE", "FARGATE_SPOT")
_MAX_NAME = 128


def task_environment(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables by which a task knows that it runs in a Batch job.

    :param attributes: attributes of ``@batch``.
    """
    environment = {"METAFLOW_RUNTIME_ENVIRONMENT": "aws-batch"}
    if _tmpfs_mib(attributes) and attributes.get("tmpfs_tempdir"):
        environment["METAFLOW_TEMPDIR"] = attributes["tmpfs_path"]
    return environment


def job_definition(
    attributes: Mapping[str, Any], *, command: Sequence[str], platform: str, gang: bool, flow: str, step: str
) -> BatchObject:
    """Return a job definition: all that the jobs of a step have in common, so that their overrides stay small.

    Equal settings give the same name, by which a definition is found again.

    :param attributes: attributes of ``@batch``, with ``@resources`` merged.
    :param command: argument list.
    :param platform: type of the queue's compute environment, e.g. ``FARGATE``.
    :param gang: whether it is for the nodes of a ``@parallel`` step.
    :param flow: flow to name in an error.
    :param step: step to name in an error.
    :raises UnsupportedFeatureError: if the platform cannot honour an attribute.
    """
    on_fargate = platform in _FARGATE
    _check_platform(attributes, on_fargate=on_fargate, gang=gang, flow=flow, step=step)
    container: BatchObject = {
        "image": attributes["image"],
        "jobRoleArn": attributes["iam_role"],
        "command": list(command),
        # Overridden by each job; Batch wants some.
        "resourceRequirements": [{"value": "1", "type": "VCPU"}, {"value": "4096", "type": "MEMORY"}],
        **_storage(attributes),
        **_logging(attributes),
    }
    if attributes.get("privileged"):
        container["privileged"] = True
    definition: BatchObject = {"type": "container", "propagateTags": True}
    if on_fargate:
        definition["platformCapabilities"] = ["FARGATE"]
        container["executionRoleArn"] = attributes["execution_role"]
        container["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
        if attributes.get("ephemeral_storage"):
            container["ephemeralStorage"] = {"sizeInGiB": int(attributes["ephemeral_storage"])}
    else:
        container["linuxParameters"] = _linux_parameters(attributes, gang=gang)
    if gang:
        definition["type"] = "multinode"
        # Each job says how many nodes it has.
        nodes = [{"targetNodes": "0:", "container": container}]
        definition["nodeProperties"] = {"numNodes": 2, "mainNode": 0, "nodeRangeProperties": nodes}
    else:
        definition["containerProperties"] = container
    digest = hashlib.sha224(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    return {"jobDefinitionName": f"metaflow_{digest}", **definition}


def container_overrides(attributes: Mapping[str, Any], environment: Mapping[str, str]) -> BatchObject:
    """Return what a job has of its own: variables and resources.

    :param attributes: attributes of ``@batch``, with ``@resources`` merged.
    :param environment: variables.
    """
    requirements = [
        {"value": _number(attributes["cpu"]), "type": "VCPU"},
        {"value": str(int(float(attributes["memory"]))), "type": "MEMORY"},
    ]
    if int(float(attributes.get("gpu") or 0)) > 0:
        requirements.append({"value": str(int(float(attributes["gpu"]))), "type": "GPU"})
    return {
        "environment": [{"name": name, "value": value} for name, value in environment.items()],
        "resourceRequirements": requirements,
    }


def job_name(manifest: Manifest, call: StepCall) -> str:
    """Return the name of a task's job without its attempt: ``Flow-step-task-<hash>``.

    :param manifest: the compiled flow.
    :param call: the task.
    """
    digest = hashlib.sha256(f"{call.run_id}/{call.step.name}/{call.task_id}".encode()).hexdigest()[:12]
    position = position_in_step(call.step.name, call.task_id)
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{manifest.graph.name}-{call.step.name}-{position}")
    return f"{readable[: _MAX_NAME - 24]}-{digest}"


def job_parameters(manifest: Manifest, call: StepCall) -> dict[str, str]:
    """Return the parameters by which Metaflow's own commands find jobs.

    :param manifest: the compiled flow.
    :param call: the task.
    """
    return {
        "metaflow.user": manifest.deployment.owner,
        "metaflow.owner": manifest.deployment.owner,
        "metaflow.flow_name": manifest.graph.name,
        "metaflow.run_id": call.run_id,
        "metaflow.step_name": call.step.name,
        "metaflow.task_id": call.task_id,
        "metaflow.retry_count": str(call.attempt),
    }


def job_tags(manifest: Manifest, call: StepCall, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a job: those of ``@batch``, and Metaflow's own if ``METAFLOW_BATCH_EMIT_TAGS`` asks for them.

    :param manifest: the compiled flow.
    :param call: the task.
    :param attributes: attributes of ``@batch``.
    """
    tags = {str(key): str(value) for key, value in (attributes.get("aws_batch_tags") or {}).items()}
    if remote_settings(manifest).batch_emit_tags:
        own = {name: value for name, value in job_parameters(manifest, call).items() if "task_id" not in name}
        tags = {"app": "metaflow", **own, **tags}
    return tags


def _check_platform(attributes: Mapping[str, Any], *, on_fargate: bool, gang: bool, flow: str, step: str) -> None:
    where = {"flow": flow, "step": step}
    if on_fargate:
        if gang:
            raise UnsupportedFeatureError("Fargate runs no multi-node jobs, as @parallel needs.", **where)
        if not attributes.get("execution_role"):
            raise UnsupportedFeatureError(
                "Fargate needs an execution role.", **where, hint="Set METAFLOW_ECS_FARGATE_EXECUTION_ROLE."
            )
        for name in ("use_tmpfs", "tmpfs_size", "shared_memory", "max_swap", "swappiness", "inferentia", "efa"):
            if attributes.get(name):
                raise UnsupportedFeatureError(f"Fargate cannot honour {name!r} of @batch.", **where)
    elif attributes.get("ephemeral_storage"):
        raise UnsupportedFeatureError("ephemeral_storage of @batch is for Fargate only.", **where)
    if not attributes.get("iam_role"):
        raise UnsupportedFeatureError(
            "@batch has no IAM role.", **where, hint="Set METAFLOW_ECS_S3_ACCESS_IAM_ROLE or @batch(iam_role=…)."
        )


def _linux_parameters(attributes: Mapping[str, Any], *, gang: bool) -> BatchObject:
    parameters: BatchObject = {}
    for name, field in (("shared_memory", "sharedMemorySize"), ("swappiness", "swappiness"), ("max_swap", "maxSwap")):
        if attributes.get(name) is not None:
            parameters[field] = int(float(attributes[name]))
    size = _tmpfs_mib(attributes)
    if size:
        parameters["tmpfs"] = [
            {"containerPath": attributes["tmpfs_path"], "size": size, "mountOptions": ["defaults"]},
        ]
    devices = _devices(attributes, gang=gang)
    if devices:
        parameters["devices"] = devices
    return parameters


def _devices(attributes: Mapping[str, Any], *, gang: bool) -> list[BatchObject]:
    devices: list[BatchObject] = []
    for number in range(int(attributes.get("inferentia") or 0)):
        path = f"/dev/neuron{number}"
        devices.append({"containerPath": path, "hostPath": path, "permissions": ["READ", "WRITE"]})
    interfaces = int(attributes.get("efa") or 0)
    if gang:
        for number in range(interfaces):
            path = f"/dev/infiniband/uverbs{number}"
            devices.append({"containerPath": path, "hostPath": path, "permissions": ["READ", "WRITE", "MKNOD"]})
    elif interfaces:
        devices.append({"hostPath": "/dev/infiniband/uverbs0"})
    return devices


def _storage(attributes: Mapping[str, Any]) -> BatchObject:
    volumes: list[BatchObject] = []
    mounts: list[BatchObject] = []
    for given in _listed(attributes.get("host_volumes")):
        host, _, container = given.partition(":")
        name = re.sub(r"[/.]", "_", host)
        volumes.append({"name": name, "host": {"sourcePath": host}})
        mounts.append({"sourceVolume": name, "containerPath": container or host})
    for given in _listed(attributes.get("efs_volumes")):
        file_system, _, container = given.partition(":")
        name = f"efs_{file_system}"
        configuration = {"fileSystemId": file_system, "transitEncryption": "ENABLED"}
        volumes.append({"name": name, "efsVolumeConfiguration": configuration})
        mounts.append({"sourceVolume": name, "containerPath": container or f"/mnt/{file_system}"})
    return {"volumes": volumes, "mountPoints": mounts} if volumes else {}


def _logging(attributes: Mapping[str, Any]) -> BatchObject:
    driver, options = attributes.get("log_driver"), _listed(attributes.get("log_options"))
    found: BatchObject = {"logDriver": driver} if driver else {}
    if options:
        found["options"] = dict(option.split(":", 1) for option in options)
    return {"logConfiguration": found} if found else {}


def _tmpfs_mib(attributes: Mapping[str, Any]) -> int | None:
    if attributes.get("tmpfs_size"):
        return int(attributes["tmpfs_size"])
    return int(float(attributes["memory"])) // 2 if attributes.get("use_tmpfs") else None


def _listed(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])


def _number(value: Any) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() else str(number)


def overrides_size(overrides: Mapping[str, Any]) -> int:
    """Return how many bytes of its limit a job's overrides take.

    :param overrides: container overrides.
    """
    return len(json.dumps(overrides).encode())


def node_overrides(overrides: Mapping[str, Any], nodes: int) -> BatchObject:
    """Return the overrides of a multi-node job, whose nodes find out by themselves which they are.

    :param overrides: container overrides.
    :param nodes: how many.
    """
    return {
        "numNodes": nodes,
        "nodePropertyOverrides": [{"targetNodes": "0:", "containerOverrides": copy.deepcopy(dict(overrides))}],
    }
