"""Makes states of a plan. Decides nothing about a flow's features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from metaflow_adapters.step_functions.language.jsonata import Text, evaluated, joined, text
from metaflow_adapters.step_functions.language.retries import Retrier
from metaflow_adapters.step_functions.language.states import INPUT as STATE_INPUT
from metaflow_adapters.step_functions.language.states import (
    MAX_LABEL,
    Choice,
    Map,
    Parallel,
    Scope,
    State,
    Step,
    Succeed,
    Task,
)
from metaflow_adapters.step_functions.plan.nodes import (
    ChoiceNode,
    GangNode,
    JobNode,
    MapNode,
    Node,
    ReadNode,
    ScopePlan,
    SplitNode,
    StopNode,
)

from .gangs import TRIES, emit_gang
from .job_states import MachineContext, emit_job, emit_long_input
from .submission import ANY_FAILURE, service


def emit_scope(plan: ScopePlan, context: MachineContext) -> Scope:
    """Return the states of a plan.

    :param plan: the plan.
    :param context: what they share.
    """
    states: list[State] = []
    for node in plan.nodes:
        if isinstance(node, GangNode):
            job = context.jobs(node.step)
            states.extend(
                emit_gang(node, job, context.partition, context.poll_seconds, at=context.at, in_map=context.in_map)
            )
            continue
        states.append(_EMITTERS[type(node)](node, context))
        if isinstance(node, JobNode) and node.step == context.start and context.takes_long_input:
            states.append(emit_long_input(node, context))
    return Scope(start=plan.start, states=tuple(one if context.in_map else _without_input(one) for one in states))


def _without_input(state: State) -> State:
    """Return a state that hands nothing on: what is in no map knows its place by a variable."""
    if isinstance(state, Step) and state.output == STATE_INPUT:
        return dataclasses.replace(state, output={})
    return state


def _read(node: ReadNode, context: MachineContext) -> Task:
    return Task(
        name=node.name,
        resource=service(context.partition, "aws-sdk:s3:getObject"),
        arguments={
            "Bucket": context.bucket,
            "Key": evaluated(joined(Text(context.prefix), context.at, Text(f"/{node.step}"))),
        },
        retry=(Retrier(errors=ANY_FAILURE),),
        assign={node.variable: evaluated("$parse($states.result.Body).reported"), **_first_try(node)},
        next=node.next,
    )


def _first_try(node: ReadNode) -> dict[str, int]:
    """Return the count of a gang's tries; its loop of states needs it from the beginning."""
    return {node.variable.replace("n", TRIES): 0} if node.of_gang else {}


def _choice(node: ChoiceNode, _: MachineContext) -> Choice:
    rules = tuple((evaluated(f"${node.variable} = {text(step)}"), target) for step, target in node.ways)
    return Choice(name=node.name, rules=rules, default=node.default)


def _split(node: SplitNode, context: MachineContext) -> Parallel:
    branches = tuple(emit_scope(branch, context) for branch in node.branches)
    return Parallel(name=node.name, branches=branches, next=node.next)


def _map(node: MapNode, context: MachineContext) -> Map:
    at = joined(context.at, "$string($states.context.Map.Item.Value)", Text("-"))
    return Map(
        name=node.name,
        items=evaluated(f"[0..${node.variable}-1]"),
        selector={"at": evaluated(at)},
        body=emit_scope(node.body, dataclasses.replace(context, in_map=True)),
        distributed=node.distributed,
        max_concurrency=node.max_concurrency,
        # By it the ARNs of the splits name their step.
        label=node.step if node.distributed and len(node.step) <= MAX_LABEL and node.step.isascii() else None,
        next=node.next,
    )


def _stop(node: StopNode, _: MachineContext) -> Succeed:
    return Succeed(name=node.name)


_EMITTERS: dict[type[Node], Callable[[Any, MachineContext], State]] = {
    JobNode: emit_job,
    ReadNode: _read,
    ChoiceNode: _choice,
    SplitNode: _split,
    MapNode: _map,
    StopNode: _stop,
}
