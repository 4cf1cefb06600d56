"""The pod of a step, from the attributes of ``@kubernetes``: plain data in the words of the Kubernetes API.

The mapping is that of ``metaflow.plugins.kubernetes.kubernetes_job``. Imports neither Airflow nor Kubernetes' client.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.identity import position_in_step
from metaflow_orchestration.run.commands import StepCall

from .objects import KubernetesObject
from .pod_fields import (
    camel_keys,
    names_of,
    nodes_of,
    pull_secrets_of,
    resources_of,
    temporary_folder,
    texts,
    trimmed,
    volumes_of,
)

TASK_LABEL = "metaflow/task-id"
CONTAINER = "base"
"""Name of the container, by which Airflow's operator and users' pod templates know it."""

TERMINATION_LOG = "/dev/termination-log"
_GRACE_SECONDS = 15
"""For the step's own clean-up and the last lines of its log when its pod is deleted."""

DOWNWARD = {
    "METAFLOW_KUBERNETES_NAMESPACE": "metadata.namespace",
    "METAFLOW_KUBERNETES_POD_NAMESPACE": "metadata.namespace",
    "METAFLOW_KUBERNETES_POD_NAME": "metadata.name",
    "METAFLOW_KUBERNETES_POD_ID": "metadata.uid",
    "METAFLOW_KUBERNETES_SERVICE_ACCOUNT_NAME": "spec.serviceAccountName",
    "METAFLOW_KUBERNETES_NODE_IP": "status.hostIP",
}


def task_environment(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables by which a task knows that it runs in a pod.

    :param attributes: attributes of ``@kubernetes``.
    """
    return {
        "METAFLOW_KUBERNETES_WORKLOAD": "1",
        "METAFLOW_RUNTIME_ENVIRONMENT": "kubernetes",
        **temporary_folder(attributes),
    }


def make_pod(
    attributes: Mapping[str, Any],
    *,
    command: list[str],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    deadline_seconds: int,
) -> KubernetesObject:
    """Return a pod that runs a command.

    :param attributes: attributes of ``@kubernetes``, with ``@resources`` merged.
    :param command: argument list.
    :param environment: variables.
    :param labels: labels, over those of the attributes.
    :param annotations: the same of annotations.
    :param deadline_seconds: after how long Kubernetes ends the pod.
    """
    volumes, mounts = volumes_of(attributes)
    spec = trimmed(
        {
            "containers": [_container(attributes, command, environment, mounts)],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline_seconds,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "serviceAccountName": attributes.get("service_account"),
            **nodes_of(attributes),
            "imagePullSecrets": pull_secrets_of(attributes),
            "volumes": volumes,
        }
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": trimmed(
            {
                "namespace": attributes.get("namespace"),
                "labels": {**texts(attributes.get("labels")), **labels},
                "annotations": {**texts(attributes.get("annotations")), **annotations},
            }
        ),
        "spec": spec,
    }


def _container(
    attributes: Mapping[str, Any],
    command: list[str],
    environment: Mapping[str, str],
    mounts: list[KubernetesObject],
) -> KubernetesObject:
    return trimmed(
        {
            "name": CONTAINER,
            "image": attributes["image"],
            "imagePullPolicy": attributes.get("image_pull_policy"),
            "command": [literal(word) for word in command],
            "env": [
                *({"name": name, "value": literal(value)} for name, value in environment.items()),
                {"name": "METAFLOW_ORCHESTRATOR_SINK", "value": TERMINATION_LOG},
                *({"name": k, "valueFrom": {"fieldRef": {"fieldPath": path}}} for k, path in DOWNWARD.items()),
            ],
            "envFrom": [{"secretRef": {"name": name}} for name in names_of(attributes.get("secrets"))],
            "ports": [{"containerPort": int(attributes["port"])}] if attributes.get("port") else None,
            "resources": resources_of(attributes),
            "volumeMounts": mounts,
            "securityContext": camel_keys(attributes.get("security_context") or {}),
            "terminationMessagePath": TERMINATION_LOG,
        }
    )


def pod_labels(manifest: Manifest, call: StepCall) -> dict[str, str]:
    """Return the labels that find the pod of a Metaflow task, whichever of its attempts it is.

    :param manifest: the compiled flow.
    :param call: the task.
    """
    return {
        "app": "metaflow",
        "app.kubernetes.io/name": "metaflow-task",
        "app.kubernetes.io/part-of": "metaflow",
        "app.kubernetes.io/created-by": label_value(manifest.deployment.owner),
        "metaflow/flow": label_value(manifest.graph.name),
        "metaflow/run-id": label_value(call.run_id),
        "metaflow/step": label_value(call.step.name),
        TASK_LABEL: label_value(call.task_id),
    }


def pod_annotations(manifest: Manifest, call: StepCall) -> dict[str, str]:
    """Return the annotations that Metaflow's own deployers give to a pod, and its attempt.

    :param manifest: the compiled flow.
    :param call: the task.
    """
    deployment, project = manifest.deployment, manifest.graph.project
    annotations = {
        "metaflow/owner": deployment.owner,
        "metaflow/user": deployment.owner,
        "metaflow/flow_name": manifest.graph.name,
        "metaflow/run_id": call.run_id,
        "metaflow/step_name": call.step.name,
        "metaflow/task_id": call.task_id,
        "metaflow/attempt": str(call.attempt),
    }
    if project is not None:
        annotations["metaflow/project_name"] = project.name
        annotations["metaflow/branch_name"] = project.branch
        annotations["metaflow/project_flow_name"] = project.flow_name
    return annotations


def pod_name(manifest: Manifest, call: StepCall) -> str:
    """Return a name with flow, step, index and attempt, which no other task has.

    At most 57 characters, which leaves characters for the suffix of a gang's pods (host names have up to 63, RFC 1123).

    :param manifest: the compiled flow.
    :param call: the task.
    """
    position = position_in_step(call.step.name, call.task_id)
    readable = f"{manifest.graph.name}-{call.step.name}-{position}"
    digest = hashlib.sha256(f"{call.run_id}/{call.step.name}/{call.task_id}/{call.attempt}".encode()).hexdigest()[:10]
    stem = re.sub(r"[^a-z0-9]+", "-", readable.lower())[:43].strip("-")
    return f"{stem}-{call.attempt}-{digest}"


def label_value(text: str) -> str:
    """Return a text as a valid value of a label: at most 63 characters of a small set (Kubernetes' label syntax).

    :param text: any text; what does not fit is replaced, and a hash keeps names different.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", text).strip("-_.")
    if safe == text and len(text) <= 63:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[:54].strip('-_.')}-{digest}".lstrip("-")


def literal(text: str) -> str:
    """Keep Kubernetes from putting variables into a text, as it does for ``$(NAME)`` in commands and variables.

    It makes one of two dollars wherever they stand (``third_party/forked/golang/expansion``), so that ``$$(NAME)`` of a
    user, escaped by a dollar before its parenthesis only, would become ``$`` and the value.

    :param text: any text.
    """
    return text.replace("$", "$$")
