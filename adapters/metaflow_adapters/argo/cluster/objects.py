"""Argo's objects as the Kubernetes API returns them: the fields that we read.

Their meaning is in the references of Kubernetes (ObjectMeta) and Argo Workflows (its "Field reference").
"""

from __future__ import annotations

from typing import TypedDict

from metaflow_orchestration.containers.objects import KubernetesObject


class ManagedFields(TypedDict, total=False):
    """Who has changed an object, and when."""

    time: str


class ObjectMeta(TypedDict, total=False):
    """What all objects have. A server leaves out what is empty, or says null."""

    name: str
    generateName: str
    namespace: str
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    creationTimestamp: str
    resourceVersion: str
    managedFields: list[ManagedFields] | None


class WorkflowStatus(TypedDict, total=False):
    """How far a workflow is, and the template that it has been started from."""

    phase: str
    message: str
    storedWorkflowTemplateSpec: KubernetesObject


class ArgoObject(TypedDict, total=False):
    """A workflow template, cron workflow, workflow or sensor; only a workflow's status is read."""

    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: KubernetesObject
    status: WorkflowStatus
