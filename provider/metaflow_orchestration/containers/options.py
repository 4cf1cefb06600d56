"""The options of a DAG file that say where and how the containers of a step run. Free of Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.compute import Compute, attributes_of, compute_of, merge_resources, parse_compute
from metaflow_orchestration.graph.model import Step

Attributes = dict[str, Any]
"""Attributes of ``@kubernetes`` or ``@batch`` by name, of the types that Metaflow's decorators take."""

OperatorArguments = dict[str, Any]
"""Keyword arguments of an orchestrator's own operator for containers, as the user has given them."""

LIMIT_SLACK_SECONDS = 600
"""How much later than Metaflow's own ``@timeout`` a platform ends a task: its limit counts from the first image pull,
and retry and catch must see the timeout."""

TASK_SLACK_SECONDS = 60
"""How much later the supervising process of a container kills the task: Metaflow's decorators see the limit first."""

DEFAULT_LIMIT_SECONDS = 5 * 24 * 60 * 60
"""Metaflow's ``DEFAULT_RUNTIME_LIMIT``."""

POD_ARGUMENTS = frozenset(
    {
        "callbacks",
        "cluster_context",
        "config_file",
        "deferrable",
        "get_logs",
        "in_cluster",
        "kubernetes_conn_id",
        "log_events_on_startup",
        "logging_interval",
        "on_finish_action",
        "on_kill_action",
        "poll_interval",
        "schedule_timeout_seconds",
        "startup_check_interval_seconds",
        "startup_timeout_seconds",
    }
)
"""Arguments of Airflow's ``KubernetesPodOperator`` that users may set."""

BATCH_ARGUMENTS = frozenset(
    {
        "array_jobs",
        "aws_conn_id",
        "awslogs_enabled",
        "awslogs_fetch_interval",
        "botocore_config",
        "deferrable",
        "max_retries",
        "poll_interval",
        "region_name",
        "scheduling_priority_override",
        "share_identifier",
        "status_retries",
        "verify",
    }
)
"""Arguments of Airflow's ``BatchOperator`` that users may set, and ours."""

_KUBERNETES = frozenset(
    {
        "annotations",
        "compute_pool",  # Metaflow has put it into the node selector
        "cpu",
        "disk",
        "executable",  # in the container's command
        "extended_resources",
        "gpu",
        "gpu_vendor",
        "hostname_resolution_timeout",  # read by the decorator in the task
        "image",
        "image_pull_policy",
        "image_pull_secrets",
        "labels",
        "memory",
        "namespace",
        "node_selector",
        "persistent_volume_claims",
        "port",
        "qos",
        "secrets",
        "security_context",
        "service_account",
        "shared_memory",
        "tmpfs_path",
        "tmpfs_size",
        "tmpfs_tempdir",
        "tolerations",
        "use_tmpfs",
    }
)
"""Attributes of ``@kubernetes`` that a pod honours."""

_BATCH = frozenset(
    {
        "aws_batch_tags",
        "cpu",
        "efa",
        "efs_volumes",
        "ephemeral_storage",
        "executable",  # in the container's command
        "execution_role",
        "gpu",
        "host_volumes",
        "iam_role",
        "image",
        "inferentia",
        "log_driver",
        "log_options",
        "max_swap",
        "memory",
        "privileged",
        "queue",
        "shared_memory",
        "swappiness",
        "tmpfs_path",
        "tmpfs_size",
        "tmpfs_tempdir",
        "use_tmpfs",
    }
)
"""Attributes of ``@batch`` that a job honours."""

_POSITIVE = frozenset({"cpu", "disk", "memory"})
_NUMBERS = _POSITIVE | {
    "efa",
    "ephemeral_storage",
    "gpu",
    "inferentia",
    "max_swap",
    "port",
    "shared_memory",
    "swappiness",
    "tmpfs_size",
}
"""Attributes that are numbers or the text of one; Metaflow checks those of the flow, but not those of a DAG file."""

POD_OVERRIDE = "pod_override"
_KNOWN = {Compute.KUBERNETES: _KUBERNETES, Compute.BATCH: _BATCH}
_ARGUMENTS = {Compute.KUBERNETES: POD_ARGUMENTS | {POD_OVERRIDE}, Compute.BATCH: BATCH_ARGUMENTS}


def resolve_compute(manifest: Manifest, step: Step, chosen: str | None) -> Compute:
    """Return where a step runs.

    :param manifest: the compiled flow.
    :param step: the step.
    :param chosen: ``compute`` of the DAG file; None leaves it to the step's decorators.
    :raises MetaflowProviderError: if the step cannot run there.
    """
    flow = manifest.graph.name
    if chosen is None:
        return compute_of(step)
    compute = parse_compute(chosen, flow, step.name)
    if compute is not Compute.LOCAL and manifest.code.datastore == "local":
        raise UnsupportedFeatureError(
            f"compute is {compute.value!r}, but the flow was deployed with the local datastore, which no container "
            "can reach.",
            flow=flow,
            step=step.name,
            hint="Deploy it with --datastore=s3 (or azure, gs).",
        )
    if compute is not Compute.LOCAL and base_attributes(manifest, step, compute) is None:
        raise UnsupportedFeatureError(
            f"compute is {compute.value!r}, which --datastore={manifest.code.datastore} does not serve.",
            flow=flow,
            step=step.name,
            hint="AWS Batch needs --datastore=s3.",
        )
    return compute


def base_attributes(manifest: Manifest, step: Step, compute: Compute) -> Attributes | None:
    """Return the attributes of the step's compute decorator, or those that a bare one would have.

    :param manifest: the compiled flow.
    :param step: the step.
    :param compute: which decorator.
    """
    own = attributes_of(step, compute.value)
    if own is not None:
        return dict(own)
    defaults = remote_settings(manifest).compute_defaults.get(compute.value)
    return merge_resources(step, defaults) if defaults is not None else None


def check_options(manifest: Manifest, step: Step, compute: Compute, given: Mapping[str, Any]) -> None:
    """Check the options of a step's containers when its DAG file is parsed.

    :param manifest: the compiled flow.
    :param step: the step.
    :param compute: Kubernetes or Batch.
    :param given: see :func:`split_options`.
    :raises MetaflowProviderError: naming what cannot be honoured.
    """
    if compute is Compute.LOCAL:
        return
    attributes, _ = split_options(manifest, step, compute, given)
    _check_numbers(manifest, step, compute, given)
    for name, value in attributes.items():
        if name not in _KNOWN[compute] and value not in (None, "", False, {}, []):
            raise UnsupportedFeatureError(
                f"@{compute.value} has the attribute {name!r}, which this release cannot honour.",
                flow=manifest.graph.name,
                step=step.name,
                hint="Remove it, or install a newer release of airflow-provider-metaflow.",
            )


def _check_numbers(manifest: Manifest, step: Step, compute: Compute, given: Mapping[str, Any]) -> None:
    for name in sorted(_NUMBERS & given.keys()):
        least = "greater than 0" if name in _POSITIVE else "0 or more"
        value = given[name]
        try:
            number = float(value or 0)
        except (TypeError, ValueError):
            number = -1.0
        if number < 0 or (name in _POSITIVE and not number):
            raise InvalidOptionError(
                f"`{compute.value}` has {name} {value!r}.",
                flow=manifest.graph.name,
                step=step.name,
                hint=f"It must be a number {least}, without a unit, as in @{compute.value}.",
            )


def split_options(
    manifest: Manifest, step: Step, compute: Compute, given: Mapping[str, Any]
) -> tuple[Attributes, OperatorArguments]:
    """Return the attributes of a step's containers, and the arguments of the operator that starts them.

    :param manifest: the compiled flow.
    :param step: the step.
    :param compute: Kubernetes or Batch.
    :param given: attributes of the decorator and arguments of the operator, mixed; they win over the decorator.
    :raises InvalidOptionError: naming a key that is neither.
    """
    attributes = base_attributes(manifest, step, compute) or {}
    arguments = {}
    for name, value in given.items():
        if name in _ARGUMENTS[compute]:
            arguments[name] = value
        elif name in attributes:
            attributes[name] = value
        else:
            raise InvalidOptionError(
                f"`{compute.value}` has the unknown key {name!r}.",
                flow=manifest.graph.name,
                step=step.name,
                hint=f"It takes the attributes of @{compute.value} and {', '.join(sorted(_ARGUMENTS[compute]))}.",
            )
    return attributes, arguments


def deadline_of(step: Step) -> int:
    """Return after how many seconds the platform ends a container of a step, whatever it does.

    :param step: the step.
    """
    return step.timeout_seconds + LIMIT_SLACK_SECONDS if step.timeout_seconds else DEFAULT_LIMIT_SECONDS


def task_limit_of(step: Step) -> int | None:
    """Return after how many seconds a container kills the task of a step, None where nothing limits it.

    :param step: the step.
    """
    return None if step.timeout_seconds is None else step.timeout_seconds + TASK_SLACK_SECONDS
