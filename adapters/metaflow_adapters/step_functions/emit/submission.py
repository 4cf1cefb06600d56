"""What states say of jobs of AWS Batch, whatever step or run they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from metaflow_adapters.step_functions.language.jsonata import Text, evaluated, joined, literal, text
from metaflow_adapters.step_functions.language.retries import Retrier
from metaflow_orchestration.graph.identity import task_id

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


AT = "at"
"""Variable with run id and index path of what is in no map, which the start step sets."""

RUN = "run"
"""Likewise, with the run id."""

RUN_ID = "metaflow.run_id"
"""Parameter of every job, and tag where Metaflow's tags are asked for."""


class Expression(str):
    """An expression of JSONata between values that are data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a state says of a step's job.

    :param name: name of the job.
    :param definition: name of its definition.
    :param queue: its queue.
    :param tags: its tags.
    :param parameters: its parameters, for people and for tokens.
    :param flow: name of the flow; None for jobs that do not say whose they are, since the flow is too long for it.
    :param step: name of the step.
    :param is_recursive: whether tasks of the step have an iteration, which no state knows.
    :param has_run_tag: whether the run is one of its tags.
    :param share: its share of a fair-share queue, None for a queue that is none.
    :param retries: how often the state tries it again; a job of an array is tried again by AWS Batch.
    :param delay_seconds: pause between two tries.
    """

    name: str
    definition: str
    queue: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    flow: str | None = None
    step: str = ""
    is_recursive: bool = False
    has_run_tag: bool = False
    share: str | None = None
    retries: int = 0
    delay_seconds: float | None = None


class Submission(TypedDict, total=False):
    """What ``SubmitJob`` of AWS Batch takes, as far as it says which job it is; texts may be :class:`Expression`."""

    JobDefinition: str
    JobName: str
    JobQueue: str
    ShareIdentifier: str
    Tags: dict[str, str]
    Parameters: dict[str, str]


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
    if isinstance(value, Expression):
        return evaluated(value)
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dict):
        return {key: as_data(one) for key, one in value.items()}
    return [as_data(one) for one in value] if isinstance(value, list) else value


def constant(value: Any) -> str:
    """Return arguments as a part of an expression.

    :param value: JSON types, and expressions between them.
    """
    if isinstance(value, Expression):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{text(key)}:{constant(one)}" for key, one in value.items()) + "}"
    return text(str(value))


def described(job: Job, at: str | None, *, is_array: bool = False) -> dict[str, str]:
    """Return the parameters by which people find the job of a task: run, step and pathspec.

    :param job: the job.
    :param at: expression with run id and index path, e.g. ``sfn-1f2e/t-3-0-``; None for the first job of a run.
    :param is_array: whether it is an array, which stands for several tasks and has the pathspec of their step.
    """
    if job.flow is None:
        return {}
    run = run_of(at)
    # One literal with what the run id begins with.
    parts = (Text(f"{job.flow}/sfn-"), "$states.context.Execution.Name") if at is None else (Text(f"{job.flow}/"), run)
    if is_array or job.is_recursive:
        pathspec = joined(*parts, Text(f"/{job.step}"))
    elif at in (None, f"${AT}"):
        pathspec = joined(*parts, Text(f"/{job.step}/{task_id(job.step)}"))
    else:
        replaced = text(f"/{job.step}/{task_id(job.step)}$1")
        pathspec = joined(Text(f"{job.flow}/"), rf"$replace({at},/\/t(.*)-$/,{replaced})")
    return {RUN_ID: Expression(run), "metaflow.step_name": job.step, "metaflow.pathspec": Expression(pathspec)}


def run_of(at: str | None) -> Expression:
    """Return the expression of Metaflow's run id.

    :param at: as for :func:`described`.
    """
    if at == f"${AT}":
        return Expression(f"${RUN}")
    return Expression("'sfn-'&$states.context.Execution.Name" if at is None else f"$substringBefore({at},'/')")


def submission(job: Job, at: str | None, *, is_array: bool = False) -> Submission:
    """Return the arguments of a submission that say which job it is.

    :param job: the job.
    :param at: as for :func:`described`.
    :param is_array: as for :func:`described`.
    """
    fields: Submission = {"JobDefinition": job.definition, "JobName": job.name, "JobQueue": job.queue}
    if job.share is not None:
        fields["ShareIdentifier"] = job.share
    tags: dict[str, str] = {**job.tags, **({RUN_ID: run_of(at)} if job.has_run_tag else {})}
    if tags:
        fields["Tags"] = tags
    parameters = {**(job.parameters if at is None else {}), **described(job, at, is_array=is_array)}
    if parameters:
        fields["Parameters"] = parameters
    return fields
