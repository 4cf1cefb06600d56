"""What states say of jobs of AWS Batch, whatever step or run they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .jsonata import literal
from .states import Retrier

PLACE = "METAFLOW_PLACE"
"""Variable of a job with step, run id and index path, e.g. ``train/sfn-1f2e/t-3-0-``."""

TRY = "'/' & $states.context.State.RetryCount"
"""What follows the place of a job that may be tried again: ``/1`` for the first time again."""

THROTTLED = Retrier(errors=("Batch.AWSBatchException",), max_attempts=10, max_delay_seconds=60, full_jitter=True)
"""AWS Batch takes 50 jobs a second (Metaflow's own deployer retries the same error as often)."""

ANY_FAILURE = ("States.TaskFailed",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a state says of a step's job.

    :param name: name of the job.
    :param definition: name of its definition.
    :param queue: its queue.
    :param tags: its tags.
    :param parameters: its parameters, for people and for tokens.
    :param retries: how often the state tries it again; a job of an array is tried again by AWS Batch.
    :param delay_seconds: pause between two tries.
    """

    name: str
    definition: str
    queue: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    retries: int = 0
    delay_seconds: float | None = None


def service(partition: str, name: str) -> str:
    """Return the resource of a service that Step Functions calls.

    :param partition: partition of AWS.
    :param name: e.g. ``batch:submitJob.sync``.
    """
    return f"arn:{partition}:states:::{name}"


def as_data(value: Any) -> Any:
    """Return arguments so that Step Functions evaluates none of their texts.

    :param value: JSON types.
    """
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dict):
        return {key: as_data(one) for key, one in value.items()}
    return [as_data(one) for one in value] if isinstance(value, list) else value


def submission(job: Job) -> dict[str, Any]:
    """Return the arguments of a submission that are the same for all jobs of a step.

    :param job: the job.
    """
    fields: dict[str, Any] = {"JobDefinition": job.definition, "JobName": job.name, "JobQueue": job.queue}
    if job.tags:
        fields["Tags"] = dict(job.tags)
    return fields
