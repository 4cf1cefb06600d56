"""What states say of jobs of AWS Batch, whatever step or run they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .jsonata import literal
from .retries import Retrier

PLACE = "METAFLOW_PLACE"
"""Variable of a job with step, run id and index path, e.g. ``train/sfn-1f2e/t-3-0-``."""

RETRY_COUNT = "$states.context.State.RetryCount"
"""How often a state was tried again; it follows the place of its job, e.g. ``/1`` for the first time again."""


def throttled(*, in_map: bool, errors: tuple[str, ...] = ("Batch.AWSBatchException",)) -> Retrier:
    """Return the retries of a submission that AWS Batch refuses since it takes 50 a second from an account.

    Metaflow's own deployer tries 10 times within about three minutes, in which some of 10,000 splits find no second
    that is not taken. In a map the pauses grow until those that wait ask less often than AWS Batch takes jobs.
    Elsewhere they end sooner, since a missing permission may look the same.

    :param in_map: whether the state runs once for each split of a foreach.
    :param errors: names of the error.
    """
    attempts, seconds = (40, 300) if in_map else (25, 60)
    return Retrier(errors=errors, max_attempts=attempts, max_delay_seconds=seconds, full_jitter=True)


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
