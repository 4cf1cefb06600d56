"""The states of a ``@parallel`` step: its multi-node job is submitted, and looked at until it has ended."""

from __future__ import annotations

from collections.abc import Iterator

from metaflow_adapters.step_functions.language.jsonata import Text, evaluated, joined, text
from metaflow_adapters.step_functions.language.retries import Retrier
from metaflow_adapters.step_functions.language.states import Choice, Fail, State, Task, Wait
from metaflow_adapters.step_functions.plan.nodes import GangNode

from .submission import ANY_FAILURE, PLACE, Job, as_data, service, submission, throttled

TRIES = "r"
"""Variable with the number of tries before; the state that reads the number of nodes sets it to 0."""

GANG_FAILED = "Metaflow.GangFailed"
"""Name of the error; those that begin with ``States.`` are kept for AWS (Amazon States Language, "Errors")."""

_JOB, _STATUS, _REASON = "j", "s", "w"
_ERRORS = ("Batch.BatchException", "Batch.AWSBatchException")


def emit_gang(node: GangNode, job: Job, partition: str, poll_seconds: int, *, at: str, in_map: bool) -> Iterator[State]:
    """Yield the states of a gang.

    :param node: its plan.
    :param job: its job.
    :param partition: partition of AWS.
    :param poll_seconds: pause between two looks.
    :param at: expression for run id and index path.
    :param in_map: whether it runs once for each split of a foreach.
    """
    retrier = throttled(in_map=in_map, errors=_ERRORS)
    names = {name: f"{name}{node.suffix}" for name in ("n", TRIES, _JOB, _STATUS, _REASON)}
    yield _submit(node, job, partition, names, at, retrier)
    yield Wait(name=node.wait, seconds=poll_seconds, next=node.look)
    yield _look(node, partition, names, retrier)
    failed = f"${names[_STATUS]} = 'FAILED'"
    again = ((evaluated(f"{failed} and ${names[TRIES]} < {job.retries}"), node.pause),) if job.retries else ()
    yield Choice(
        name=node.choose,
        rules=((evaluated(f"${names[_STATUS]} = 'SUCCEEDED'"), node.next), *again, (evaluated(failed), node.fail)),
        default=node.wait,
    )
    if job.retries:
        tries = names[TRIES]
        seconds = max(int(job.delay_seconds or 0), 1)
        counted = {tries: evaluated(f"${tries} + 1")}
        yield Wait(name=node.pause, rare=True, seconds=seconds, assign=counted, next=node.name)
    yield Fail(name=node.fail, error=GANG_FAILED, cause=evaluated(f"${names[_REASON]}"))


def _submit(node: GangNode, job: Job, partition: str, names: dict[str, str], at: str, retrier: Retrier) -> Task:
    place = joined(Text(f"{node.step}/"), at, Text("/"), f"${names[TRIES]}")
    environment = [{"Name": PLACE, "Value": evaluated(place)}]
    nodes = [{"TargetNodes": "0:", "ContainerOverrides": {"Environment": environment}}]
    return Task(
        name=node.name,
        resource=service(partition, "aws-sdk:batch:submitJob"),
        arguments={
            **as_data(submission(job, at)),
            "NodeOverrides": {"NumNodes": evaluated(f"${names['n']}"), "NodePropertyOverrides": nodes},
        },
        retry=(retrier,),
        assign={names[_JOB]: evaluated("$states.result.JobId")},
        next=node.wait,
    )


def _look(node: GangNode, partition: str, names: dict[str, str], retrier: Retrier) -> Task:
    job = "$states.result.Jobs[0]"
    return Task(
        name=node.look,
        resource=service(partition, "aws-sdk:batch:describeJobs"),
        arguments={"Jobs": [evaluated(f"${names[_JOB]}")]},
        retry=(retrier, Retrier(errors=ANY_FAILURE)),
        assign={
            names[_STATUS]: evaluated(f"{job}.Status"),
            names[_REASON]: evaluated(f"{text(node.step + ': ')} & {job}.StatusReason"),
        },
        next=node.choose,
    )
