"""The plan of a flow on Step Functions: which states there are and how they follow each other. No target import.

The input of every state is the *place*: run id and index path, e.g. ``{"at": "sfn-1f2e/t-3-0-"}``. Each state hands it
on, so it reaches distributed maps, too, whose children see no variable from outside. Ids of tasks are not handed on at
all: a container finds its inputs in the datastore (``sources.py``), so a foreach costs its join neither lists nor a
table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from metaflow_adapters.sources import reachable
from metaflow_adapters.step_functions.language.states import MAX_NAME
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind

from .nodes import ChoiceNode, GangNode, JobKind, JobNode, MapNode, Node, ReadNode, ScopePlan, SplitNode, StopNode

INLINE_CONCURRENCY = 40
"""How many iterations of an inline map AWS runs at a time (Step Functions, service quotas)."""

MAX_WORKERS = 100
"""How many splits of a distributed map run at a time by default, as with Metaflow's own deployer."""

_READS = {
    StepKind.FOREACH: "count splits",
    StepKind.PARALLEL: "count nodes",
    StepKind.SWITCH: "read choice",
}
_FOR_EACH = "for each split"
_BRANCHES = "branches"
_GANG = {
    "wait": "wait for job",
    "look": "read job status",
    "choose": "check job status",
    "pause": "wait to retry",
    "fail": "job failed",
}


def plan_flow(graph: FlowGraph, *, max_workers: int | None = None, distributed: bool | None = None) -> ScopePlan:
    """Return the plan of a flow.

    :param graph: the flow.
    :param max_workers: how many tasks of a foreach run at a time; 0 for any number. An array job knows no such limit,
        so with one a foreach is a map. If left out, distributed maps have :data:`MAX_WORKERS`.
    :param distributed: whether maps are distributed; None for those that are in no other map, whose history would
        otherwise fill with the splits.
    """
    return _Planner(graph, max_workers, distributed).scope(graph.start, None, depth=0, in_map=False)


def job_kinds(plan: ScopePlan) -> dict[str, JobKind]:
    """Return what each step is to AWS Batch, by step.

    :param plan: the plan of a flow.
    """
    found: dict[str, JobKind] = {}
    for node in plan.nodes:
        if isinstance(node, JobNode):
            found[node.step] = node.kind
        elif isinstance(node, GangNode):
            found[node.step] = JobKind.GANG
        elif isinstance(node, SplitNode):
            for branch in node.branches:
                found |= job_kinds(branch)
        elif isinstance(node, MapNode):
            found |= job_kinds(node.body)
    return found


def reported_by(step: Step) -> str | None:
    """Return what the orchestrator must learn of a step: ``splits``, ``nodes`` or ``next``; None for nothing.

    :param step: the step.
    """
    return {StepKind.FOREACH: "splits", StepKind.PARALLEL: "nodes", StepKind.SWITCH: "next"}.get(step.kind)


class _Planner:
    def __init__(self, graph: FlowGraph, max_workers: int | None, distributed: bool | None) -> None:
        self._graph, self._max_workers, self._distributed = graph, max_workers, distributed

    def scope(self, first: str, end: str | None, *, depth: int, in_map: bool) -> ScopePlan:
        """Return the states from one step to another, that left out.

        :param first: the first step.
        :param end: the step that the scope ends before; None for the end of the flow.
        :param depth: number of scopes around; a variable of an inner scope must have another name.
        :param in_map: whether one of them is a map.
        """
        inside = reachable(self._graph, first, end or "")
        nodes: list[Node] = []
        for step in self._graph.steps:
            if step.name in inside:
                nodes += self._step(step, end, depth, in_map)
        return ScopePlan(start=state_name(first), nodes=tuple(nodes))

    def _step(self, step: Step, end: str | None, depth: int, in_map: bool) -> Iterator[Node]:
        variable = f"n{depth or ''}"
        read = ReadNode(
            name=state_name(step.name, _READS.get(step.kind, "")),
            step=step.name,
            variable=variable,
            of_gang=step.kind is StepKind.PARALLEL,
            next=self._after_read(step),
        )
        if step.kind is StepKind.SWITCH:
            yield self._job(step, read.name)
            yield read
            yield from self._choice(step, end, variable)
        elif step.kind is StepKind.SPLIT:
            yield self._job(step, state_name(step.name, _BRANCHES))
            yield self._split(step, depth, in_map)
        elif step.kind is StepKind.FOREACH:
            yield self._job(step, read.name)
            yield read
            yield self._foreach(step, variable, depth, in_map)
        elif step.kind is StepKind.PARALLEL:
            yield self._job(step, read.name)
            yield read
            yield _gang(step.next_steps[0], str(depth or ""), _join(step))
        else:
            following = step.next_steps[0] if step.next_steps else end
            yield self._job(step, None if following == end else state_name(str(following)))

    def _job(self, step: Step, following: str | None) -> JobNode:
        return JobNode(name=state_name(step.name), step=step.name, next=following)

    def _after_read(self, step: Step) -> str:
        if step.kind is StepKind.SWITCH:
            return state_name(step.name, "switch")
        if step.kind is StepKind.FOREACH and self._array_step(step) is None:
            return state_name(step.name, _FOR_EACH)
        return state_name(step.next_steps[0]) if step.next_steps else ""

    def _choice(self, step: Step, end: str | None, variable: str) -> Iterator[Node]:
        stop = StopNode(name=state_name(step.name, "done"))
        ways = [(name, stop.name if name == end else state_name(name)) for name in step.next_steps]
        if end in step.next_steps:
            yield stop
        # A loop goes on unless another step is chosen.
        default = state_name(step.name) if step.recursive else ways.pop()[1]
        name = state_name(step.name, "switch")
        yield ChoiceNode(name=name, variable=variable, ways=tuple(ways), default=default)

    def _split(self, step: Step, depth: int, in_map: bool) -> SplitNode:
        branches = tuple(self.scope(first, step.closed_by, depth=depth + 1, in_map=in_map) for first in step.next_steps)
        return SplitNode(name=state_name(step.name, _BRANCHES), branches=branches, next=_join(step))

    def _foreach(self, step: Step, variable: str, depth: int, in_map: bool) -> Node:
        only = self._array_step(step)
        if only is not None:
            kind = JobKind.ARRAY
            return JobNode(name=state_name(only.name), step=only.name, kind=kind, variable=variable, next=_join(step))
        distributed = self._is_distributed(in_map)
        return MapNode(
            name=state_name(step.name, _FOR_EACH),
            step=step.name,
            variable=variable,
            body=self.scope(step.next_steps[0], step.closed_by, depth=depth + 1, in_map=True),
            distributed=distributed,
            max_concurrency=MAX_WORKERS if distributed and self._max_workers is None else self._max_workers,
            next=_join(step),
        )

    def _is_distributed(self, in_map: bool) -> bool:
        if self._distributed is not None:
            return self._distributed
        return not in_map or (self._max_workers or 0) > INLINE_CONCURRENCY

    def _array_step(self, foreach: Step) -> Step | None:
        """Return the only step of a foreach's body, None if it must be a map."""
        path = (*foreach.foreach_path, foreach.name)
        body = [step for step in self._graph.steps if step.foreach_path[: len(path)] == path]
        if self._max_workers is not None or len(body) != 1 or body[0].kind is not StepKind.LINEAR:
            return None
        return body[0]


def _gang(step: str, suffix: str, following: str) -> GangNode:
    names = {field: state_name(step, what) for field, what in _GANG.items()}
    return GangNode(name=state_name(step), step=step, suffix=suffix, next=following, **names)


def _join(step: Step) -> str:
    return state_name(str(step.closed_by))


def state_name(step: str, what: str = "") -> str:
    """Return the name of a state of a step; steps are Python names, so no two can be equal.

    :param step: name of the step.
    :param what: what it does beside running the step, as people read it in AWS's console.
    """
    name = f"{step}: {what}" if what else step
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9]}-{digest}"
