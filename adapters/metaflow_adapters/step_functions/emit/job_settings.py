"""What the jobs of a flow need to know besides the flow, and the attributes of a step with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaflow_orchestration.containers.options import base_attributes, check_options
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import UnsupportedFeatureError
from metaflow_orchestration.graph.compute import Compute, compute_of
from metaflow_orchestration.graph.model import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What jobs need to know besides the flow.

    :param queue: queue in place of those of decorators.
    :param image: image in place of those of decorators.
    :param platform: type of the queues' compute environments, by queue.
    :param tags: tags of all jobs.
    :param is_tagged: whether jobs that have no tags otherwise have the tag of their deployment.
    :param share: share of jobs in fair-share queues, by queue, or that of all queues.
    """

    queue: str | None = None
    image: str | None = None
    platform: Mapping[str, str]
    tags: Mapping[str, str]
    is_tagged: bool = True
    share: str | Mapping[str, str] | None = None

    def share_in(self, queue: str) -> str | None:
        """Return the share of jobs in a queue, None if it is no fair-share queue.

        :param queue: name or ARN.
        """
        return self.share if self.share is None or isinstance(self.share, str) else self.share.get(queue)


def attributes_of_step(manifest: Manifest, step: Step, settings: JobSettings) -> dict[str, Any]:
    """Return the attributes of ``@batch`` of a step, with ``@resources`` merged.

    :param manifest: the compiled flow.
    :param step: the step.
    :param settings: what jobs need to know besides the flow.
    """
    flow = manifest.graph.name
    if compute_of(step) is Compute.KUBERNETES:
        raise on_kubernetes(flow, step.name)
    if manifest.code.datastore != "s3":
        raise UnsupportedFeatureError(
            f"AWS Step Functions needs --datastore=s3, and it has {manifest.code.datastore!r}.", flow=flow
        )
    check_options(manifest, step, Compute.BATCH, {})
    found = base_attributes(manifest, step, Compute.BATCH) or {}
    if settings.queue is not None:
        found["queue"] = settings.queue
    if settings.image is not None:
        found["image"] = settings.image
    for name, variable in (("queue", "METAFLOW_BATCH_JOB_QUEUE"), ("image", "METAFLOW_BATCH_CONTAINER_IMAGE")):
        if not found.get(name):
            raise UnsupportedFeatureError(
                f"it has no {name}.", flow=flow, step=step.name, hint=f"Set {variable} or @batch({name}=…)."
            )
    return found


def on_kubernetes(flow: str, step: str) -> UnsupportedFeatureError:
    """Return the error of a step that is marked for Kubernetes.

    :param flow: name of the flow.
    :param step: name of the step.
    """
    return UnsupportedFeatureError(
        "it is marked for Kubernetes, and AWS Step Functions runs jobs of AWS Batch only.",
        flow=flow,
        step=step,
        hint="Use @batch in place of @kubernetes.",
    )
