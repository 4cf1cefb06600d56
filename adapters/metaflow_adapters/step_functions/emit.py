"""Makes states of a plan. Decides nothing about a flow's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .gangs import TRIES, emit_gang
from .jsonata import evaluated, quoted, text
from .nodes import ChoiceNode, GangNode, JobKind, JobNode, MapNode, Node, ReadNode, ScopePlan, SplitNode, StopNode
from .states import MAX_LABEL, Catcher, Choice, Map, Parallel, Retrier, Scope, State, Succeed, Task
from .submission import ANY_FAILURE, PLACE, THROTTLED, TRY, Job, as_data, service, submission

INPUT = "METAFLOW_INPUT"
"""Variable of the first job with the input of the execution, or ``@`` where that is in the datastore."""

INLINE_INPUT = 5000
"""Longest input that goes into a job's variables, which AWS Batch limits to 8,192 bytes. Measured with all but plain
letters counted threefold, as ``$encodeUrlComponent`` writes them, so that no way of counting bytes gives more."""

LONG_INPUT = "long input"
"""State that puts a long input into the datastore."""


_TOO_LONG = Catcher(errors=("States.QueryEvaluationError",), next=LONG_INPUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the states of a machine share.

    :param partition: partition of AWS, e.g. ``aws``.
    :param bucket: bucket of the datastore.
    :param root: key of the datastore's root.
    :param prefix: keys of what containers tell begin so.
    :param start: name of the start step.
    :param end: name of the end step.
    :param jobs: job of each step.
    :param takes_input: whether the input of an execution may be long: whether the flow has parameters or events.
    :param poll_seconds: pause between two looks at the job of a gang.
    """

    partition: str
    bucket: str
    root: str
    prefix: str
    start: str
    end: str
    jobs: Callable[[str], Job]
    takes_input: bool = True
    poll_seconds: int = 30


def emit_scope(plan: ScopePlan, around: Surroundings) -> Scope:
    """Return the states of a plan.

    :param plan: the plan.
    :param around: what they share.
    """
    states: list[State] = []
    for node in plan.nodes:
        if isinstance(node, GangNode):
            states.extend(emit_gang(node, around.jobs(node.step), around.partition, around.poll_seconds))
            continue
        states.append(_EMITTERS[type(node)](node, around))
        if isinstance(node, JobNode) and node.step == around.start and around.takes_input:
            states.append(_long_input(node, around))
    return Scope(start=plan.start, states=tuple(states))


def _job(node: JobNode, around: Surroundings) -> Task:
    job = around.jobs(node.step)
    is_first, is_last = node.step == around.start, node.step == around.end
    at = "'sfn-' & $states.context.Execution.Name & '/t-'" if is_first else "$states.input.at"
    fields = submission(job)
    if job.parameters and is_first:
        fields["Parameters"] = dict(job.parameters)
    variables = {PLACE: f"{text(node.step + '/')} & {at}"}
    retry = [THROTTLED]
    if node.kind is not JobKind.ARRAY and job.retries:
        variables[PLACE] += f" & {TRY}"
        retry.append(_retrier(job))
    if is_first:
        variables[INPUT] = _input() if around.takes_input else "$string($states.input)"
    output: Any = "{% $states.input %}"
    if is_last:
        output = {"run_id": evaluated(f"$substringBefore({at}, '/')")}
    elif is_first:
        output = {"at": evaluated(at)}
    elif node.next is None:
        output = {}
    return Task(
        name=node.name,
        resource=service(around.partition, "batch:submitJob.sync"),
        arguments=_arguments(node, fields, variables),
        retry=tuple(retry),
        catch=(_TOO_LONG,) if is_first and around.takes_input else (),
        output=output,
        next=node.next,
    )


def _retrier(job: Job) -> Retrier:
    """Return the retries of ``@retry`` and ``@catch``, with the same pause before each."""
    return Retrier(
        errors=ANY_FAILURE,
        interval_seconds=max(int(job.delay_seconds or 0), 1),
        max_attempts=job.retries,
        backoff_rate=1,
    )


def _input() -> str:
    """Return the input of the execution as text; a long one makes an error, which the state catches.

    The job that has a copy of it in the datastore costs a state more, but only where it is needed.
    """
    return (
        "($i:=$string($states.input);$exists($states.input.LongInput)?$states.input.LongInput:"
        f"$length($encodeUrlComponent($i))>{INLINE_INPUT}?$error('long'):$i)"
    )


def _arguments(node: JobNode, fields: dict[str, Any], variables: Mapping[str, str]) -> Any:
    if node.kind is JobKind.ARRAY:
        return _array_arguments(node, fields, variables)
    overrides = {"Environment": [{"Name": name, "Value": evaluated(value)} for name, value in variables.items()]}
    return {**as_data(fields), "ContainerOverrides": overrides}


def _array_arguments(node: JobNode, fields: dict[str, Any], variables: Mapping[str, str]) -> str:
    """Return one expression for all arguments: AWS Batch takes no array of one, and a field cannot be left out."""
    count = f"${node.variable}"
    # An only child is no array, and must be told its index.
    index = f" & ({count}=1?'0-':'')"
    given = [
        f"{{'Name':'{name}','Value':{value}{index if name == PLACE else ''}}}" for name, value in variables.items()
    ]
    fixed = {**fields, "ContainerOverrides": "$e"}
    parts = ",".join(f"{text(name)}:{'$e' if value == '$e' else _constant(value)}" for name, value in fixed.items())
    environment = f"{{'Environment':[{','.join(given)}]}}"
    size = f"{count}=1?{{}}:{{'ArrayProperties':{{'Size':{count}}}}}"
    return evaluated(f"($e:={environment};$merge([{{{parts}}},{size}]))")


def _constant(value: Any) -> str:
    return text(value) if isinstance(value, str) else quoted(value)


def _long_input(node: JobNode, around: Surroundings) -> Task:
    key = f"{text(around.prefix + 'sfn-')} & $states.context.Execution.Name & '/input'"
    return Task(
        name=LONG_INPUT,
        resource=service(around.partition, "aws-sdk:s3:putObject"),
        arguments={
            "Bucket": around.bucket,
            "Key": evaluated(key),
            # It comes here a second time only if something else is wrong.
            # An object, which S3 gets as JSON; it would get a text in quotes (LocalStack's comparison with AWS).
            "Body": evaluated("$exists($states.input.LongInput)?$error('input'):$states.input"),
        },
        retry=(Retrier(errors=ANY_FAILURE),),
        output={"LongInput": "@"},
        next=node.name,
    )


def _read(node: ReadNode, around: Surroundings) -> Task:
    return Task(
        name=node.name,
        resource=service(around.partition, "aws-sdk:s3:getObject"),
        arguments={
            "Bucket": around.bucket,
            "Key": evaluated(f"{text(around.prefix)} & $states.input.at & {text('/' + node.step)}"),
        },
        retry=(Retrier(errors=ANY_FAILURE),),
        assign={node.variable: evaluated("$parse($states.result.Body).told"), **_first_try(node)},
        next=node.next,
    )


def _first_try(node: ReadNode) -> dict[str, int]:
    """Return the count of a gang's tries; its loop of states needs it from the beginning."""
    return {node.variable.replace("n", TRIES): 0} if node.of_gang else {}


def _choice(node: ChoiceNode, _: Surroundings) -> Choice:
    rules = tuple((evaluated(f"${node.variable} = {text(step)}"), target) for step, target in node.ways)
    return Choice(name=node.name, rules=rules, default=node.default)


def _split(node: SplitNode, around: Surroundings) -> Parallel:
    branches = tuple(emit_scope(branch, around) for branch in node.branches)
    return Parallel(name=node.name, branches=branches, next=node.next)


def _map(node: MapNode, around: Surroundings) -> Map:
    at = "$states.input.at & $string($states.context.Map.Item.Value) & '-'"
    return Map(
        name=node.name,
        items=evaluated(f"[0..${node.variable}-1]"),
        selector={"at": evaluated(at)},
        body=emit_scope(node.body, around),
        distributed=node.distributed,
        max_concurrency=node.max_concurrency,
        # By it the ARNs of the splits name their step.
        label=node.step if node.distributed and len(node.step) <= MAX_LABEL and node.step.isascii() else None,
        next=node.next,
    )


def _stop(node: StopNode, _: Surroundings) -> Succeed:
    return Succeed(name=node.name)


_EMITTERS: dict[type[Node], Callable[[Any, Surroundings], State]] = {
    JobNode: _job,
    ReadNode: _read,
    ChoiceNode: _choice,
    SplitNode: _split,
    MapNode: _map,
    StopNode: _stop,
}
