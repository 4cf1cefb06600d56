"""The states that submit the jobs of steps, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaflow_adapters.step_functions.language.asl import Json
from metaflow_adapters.step_functions.language.jsonata import Text, evaluated, joined, text
from metaflow_adapters.step_functions.language.retries import Catcher, Retrier
from metaflow_adapters.step_functions.language.states import INPUT as STATE_INPUT
from metaflow_adapters.step_functions.language.states import Task
from metaflow_adapters.step_functions.plan.nodes import JobKind, JobNode

from .submission import (
    ANY_FAILURE,
    AT,
    PLACE,
    RETRY_COUNT,
    RUN,
    Job,
    Submission,
    as_data,
    constant,
    run_of,
    service,
    submission,
    throttled,
)

SHARED = "job"
"""Variable with what submissions have in common: job definition, queue and tags of the start step's job.

A definition may have 1 MiB. Executions of distributed maps do not see it.
"""


INPUT = "METAFLOW_INPUT"
"""Variable of the first job with the input of the execution, or ``@`` where that is in the datastore."""


INLINE_INPUT = 5000
"""Longest input that goes into a job's variables, which AWS Batch limits to 8,192 bytes. Measured with all but plain
letters counted threefold, as ``$encodeUrlComponent`` writes them, so that no way of counting bytes gives more."""


LONG_INPUT = "save long input"
"""State that puts a long input into the datastore."""


_IN_DATASTORE = "@"
"""Input of the start step that stands for one in the datastore."""


_EXECUTION = "$states.context.Execution.Name"


_TOO_LONG = Catcher(errors=("States.QueryEvaluationError",), next=LONG_INPUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineContext:
    """What the states of a machine share.

    :param partition: partition of AWS, e.g. ``aws``.
    :param bucket: bucket of the datastore.
    :param root: key of the datastore's root.
    :param prefix: prefix of the keys of what containers report.
    :param start: name of the start step.
    :param end: name of the end step.
    :param jobs: job of each step.
    :param takes_long_input: whether the input of an execution may be too long for the variables of a job.
    :param poll_seconds: pause between two looks at the job of a gang.
    :param in_map: whether the states run once for each split of a foreach.
    """

    partition: str
    bucket: str
    root: str
    prefix: str
    start: str
    end: str
    jobs: Callable[[str], Job]
    takes_long_input: bool = True
    poll_seconds: int = 30
    in_map: bool = False

    @property
    def at(self) -> str:
        """Expression for run id and index path: the input in a map, whose splits differ, a variable elsewhere."""
        return "$states.input.at" if self.in_map else f"${AT}"


def emit_job(node: JobNode, context: MachineContext) -> Task:
    """Return the state that submits a step's job and waits for it.

    :param node: the node of the plan.
    :param context: what the states share.
    """
    job = context.jobs(node.step)
    is_first, is_last = node.step == context.start, node.step == context.end
    at = (Text("sfn-"), _EXECUTION, Text("/t-")) if is_first else (context.at,)
    fields = submission(job, None if is_first else context.at, is_array=node.kind is JobKind.ARRAY)
    place = [Text(f"{node.step}/"), *at]
    retry = [throttled(in_map=context.in_map)]
    if node.kind is not JobKind.ARRAY and job.retries:
        if is_first and context.takes_long_input:
            # What `States.TaskFailed` would try again, and which goes elsewhere.
            retry.append(Retrier(errors=_TOO_LONG.errors, max_attempts=0))
        place += [Text("/"), RETRY_COUNT]
        retry.append(_retrier(job))
    variables = {PLACE: joined(*place)}
    if is_first:
        variables[INPUT] = _input() if context.takes_long_input else "$string($states.input)"
    output: Json = STATE_INPUT
    if is_last:
        run_id = joined(*at[:-1]) if is_first else f"$substringBefore({context.at},'/')"
        output = {"run_id": evaluated(run_id)}
    elif node.next is None:
        output = {}
    return Task(
        name=node.name,
        resource=service(context.partition, "batch:submitJob.sync"),
        arguments=_arguments(node, fields, variables, {} if is_first or context.in_map else _shared(context)),
        retry=tuple(retry),
        catch=(_TOO_LONG,) if is_first and context.takes_long_input else (),
        output=output,
        assign=_assigned(job, joined(*at), context) if is_first and not is_last else {},
        next=node.next,
    )


def _assigned(job: Job, at: str, context: MachineContext) -> dict[str, Json]:
    """Return the variables that the start step sets for what is in no map."""
    run = {RUN: evaluated(run_of(None))} if job.flow is not None or job.has_run_tag else {}
    return {AT: evaluated(at), **run, SHARED: as_data(_shared(context))}


def _retrier(job: Job) -> Retrier:
    """Return the retries of ``@retry`` and ``@catch``, with the same pause before each."""
    delay = int(job.delay_seconds or 0)
    return Retrier(
        errors=ANY_FAILURE,
        # One second is AWS's default.
        interval_seconds=delay if delay > 1 else None,
        max_attempts=job.retries,
        backoff_rate=1,
    )


def _input() -> str:
    """Return the input of the execution as text; a long one makes an error, which the state catches.

    The job that has a copy of it in the datastore costs a state more, but only where it is needed.
    """
    return f"($i:=$string($states.input);$length($encodeUrlComponent($i))>{INLINE_INPUT}?$error('long'):$i)"


def _shared(context: MachineContext) -> Submission:
    """Return the fields of submissions that are in a variable."""
    fields = submission(context.jobs(context.start), None)
    fields.pop("JobName")
    fields.pop("Parameters", None)
    return fields


def _arguments(node: JobNode, fields: Submission, variables: Mapping[str, str], shared: Submission) -> Json:
    """Return the arguments of a submission.

    :param node: its node.
    :param fields: fields that are the same in all runs.
    :param variables: expressions for variables of the job.
    :param shared: fields that are in the variable :data:`SHARED`.
    """
    if node.kind is not JobKind.ARRAY and not shared:
        environment = [{"Name": name, "Value": evaluated(value)} for name, value in variables.items()]
        return {**as_data(fields), "ContainerOverrides": {"Environment": environment}}
    # AWS Batch takes no array of one, and a field cannot be left out of an object: one expression for all arguments.
    count = f"${node.variable}"
    if node.kind is JobKind.ARRAY:
        # An only child is no array, and must be given its index.
        variables = {**variables, PLACE: f"{variables[PLACE]}&({count}=1?'0-':'')"}
    is_shared = bool(shared) and shared.keys() <= fields.keys()
    own = {name: value for name, value in fields.items() if not is_shared or shared.get(name) != value}
    given = [f"{{'Name':'{name}','Value':{value}}}" for name, value in variables.items()]
    parts = [f"{text(name)}:{constant(value)}" for name, value in own.items()]
    parts.append(f"'ContainerOverrides':{{'Environment':[{','.join(given)}]}}")
    merged = [*([f"${SHARED}"] if is_shared else []), f"{{{','.join(parts)}}}"]
    if node.kind is JobKind.ARRAY:
        merged.append(f"{count}=1?{{}}:{{'ArrayProperties':{{'Size':{count}}}}}")
    return evaluated(f"$merge([{','.join(merged)}])" if len(merged) > 1 else merged[0])


def emit_long_input(node: JobNode, context: MachineContext) -> Task:
    """Return the state that saves a long input in the datastore and goes back to the start step.

    :param node: the node of the start step.
    :param context: what the states share.
    """
    key = joined(Text(f"{context.prefix}sfn-"), _EXECUTION, Text("/input"))
    return Task(
        name=LONG_INPUT,
        rare=True,
        resource=service(context.partition, "aws-sdk:s3:putObject"),
        arguments={
            "Bucket": context.bucket,
            "Key": evaluated(key),
            # An object, which S3 gets as JSON; it would get a text in quotes (LocalStack's comparison with AWS).
            "Body": evaluated("$states.context.Execution.Input"),
        },
        retry=(Retrier(errors=ANY_FAILURE),),
        # Short enough, so that the start step does not come here again.
        output=evaluated(text(_IN_DATASTORE)),
        next=node.name,
    )
