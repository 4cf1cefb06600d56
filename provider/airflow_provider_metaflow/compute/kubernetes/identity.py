"""Which pods are those of a Metaflow task: labels find them, and whoever may make pods may give them any labels.

A pod that is attached to reports the outcome of the task and writes its log, so it must be one that this provider has
made: by its name, which follows from run, step, task and attempt, by what owns it, and by what it runs as.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from metaflow_orchestration.containers.gang import JOB_LABEL
from metaflow_orchestration.containers.pods import pod_name
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.identity import MAX_ATTEMPTS
from metaflow_orchestration.run.commands import StepCall

_DEFAULT_ACCOUNT = "default"
"""What Kubernetes fills in where a pod names no service account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """What is known of the pods of a task before one is found. Pods are ``V1Pod`` of Kubernetes' client.

    :param names: names that the pods of its attempts have, or the jobs of a gang's; None if a user has chosen the name.
    :param container: name of the container that runs the task.
    :param gang: whether a job owns them.
    """

    names: frozenset[str] | None
    container: str
    gang: bool = False

    def difference(self, pod: Any, requested: Any = None) -> str | None:
        """Return why a pod cannot be one of the task, None if it can.

        :param pod: the pod that was found.
        :param requested: the pod that would be made now, for what it runs as.
        """
        metadata = pod.metadata
        name = (metadata.labels or {}).get(JOB_LABEL) if self.gang else metadata.name
        if self.names is not None and name not in self.names:
            return f"its name is {metadata.name}"
        owners = [(one.kind, one.name) for one in metadata.owner_references or []]
        if owners != ([("Job", name)] if self.gang else []):
            return f"it is owned by {owners[0][0]} {owners[0][1]}" if owners else "no job owns it"
        if requested is None:
            return None
        if _account(pod) != _account(requested):
            return f"its service account is {_account(pod)}, not {_account(requested)}"
        image, wanted = self._image(pod), self._image(requested)
        return None if image == wanted else f"its image is {image}, not {wanted}"

    def _image(self, pod: Any) -> Any:
        return next((one.image for one in pod.spec.containers if one.name == self.container), None)


def _account(pod: Any) -> str:
    return pod.spec.service_account_name or _DEFAULT_ACCOUNT


def names_of_attempts(manifest: Manifest, calls: Iterable[StepCall]) -> frozenset[str]:
    """Return the names that the pods of all attempts of tasks have.

    :param manifest: the compiled flow.
    :param calls: the tasks.
    """
    return frozenset(pod_name(manifest, replace(call, attempt=n)) for call in calls for n in range(MAX_ATTEMPTS))
