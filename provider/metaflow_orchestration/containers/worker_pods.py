"""What a step asks of the pod that an orchestrator's own worker runs in: a part of a pod, as plain data.

The step is a process of that worker, so the command, the account, the secrets and the labels of the pod are the
worker's. The step decides how large the pod is, where it may run, and which image it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.compute import Compute, attributes_of
from metaflow_orchestration.graph.model import Step

from .objects import KubernetesObject
from .options import Attributes, check_options, split_options
from .pod_fields import nodes_of, pull_secrets_of, resources_of, temporary_folder, trimmed, volumes_of
from .pods import CONTAINER

_GPU_VENDOR = "nvidia"
"""Metaflow's default, for a step whose GPUs only ``@resources`` asks for."""


def worker_pod(manifest: Manifest, step: Step, given: Mapping[str, Any]) -> KubernetesObject | None:
    """Return what a step asks of its worker's pod, None if it has neither ``@kubernetes`` nor ``@resources``.

    With ``@kubernetes`` it is what its own pod would have, but for the image: the one that Metaflow chooses where the
    step names none holds no worker. With ``@resources`` alone it is what that says.

    >>> worker_pod(manifest, manifest.graph.step("train"), {})
    {'spec': {'containers': [{'name': 'base', 'resources': {'requests': {'cpu': '2', 'memory': '8192M'}}}]}}

    :param manifest: the compiled flow.
    :param step: the step.
    :param given: attributes of ``@kubernetes`` of the DAG file; they win over the decorator, and count only beside it.
    :raises MetaflowProviderError: if one of them cannot be honoured.
    """
    attributes = _attributes(manifest, step, given)
    if attributes is None:
        return None
    volumes, mounts = volumes_of(attributes)
    container = trimmed(
        {
            "name": CONTAINER,
            "image": attributes.get("image"),
            "imagePullPolicy": attributes.get("image_pull_policy"),
            "env": [{"name": name, "value": value} for name, value in temporary_folder(attributes).items()],
            "resources": resources_of(attributes),
            "volumeMounts": mounts,
        }
    )
    spec = {
        "containers": [container],
        **nodes_of(attributes),
        "imagePullSecrets": pull_secrets_of(attributes),
        "volumes": volumes,
    }
    return {"spec": trimmed(spec)}


def _attributes(manifest: Manifest, step: Step, given: Mapping[str, Any]) -> Attributes | None:
    own = attributes_of(step, Compute.KUBERNETES.value)
    if own is None:
        resources = attributes_of(step, "resources")
        return None if resources is None else {"gpu_vendor": _GPU_VENDOR, **resources}
    check_options(manifest, step, Compute.KUBERNETES, given)
    attributes, _ = split_options(manifest, step, Compute.KUBERNETES, given)
    default = remote_settings(manifest).compute_defaults.get(Compute.KUBERNETES.value) or {}
    if attributes.get("image") == default.get("image"):
        for name in ("image", "image_pull_policy", "image_pull_secrets"):
            attributes.pop(name, None)
    return attributes
