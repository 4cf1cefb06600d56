"""Where the inputs of a step come from, for containers that find them in the datastore.

An orchestrator that hands on no lists of task ids stays small: a foreach of 10,000 costs it one number. What a
container needs instead is known here, when the flow is compiled; ``placed_task.py`` of the extension does the rest.
"""

from __future__ import annotations

from typing import TypedDict

from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind


class Branch(TypedDict, total=False):
    """An open branch that a step closes or continues: its last step where only one can be, else its first.

    :param parent: the step before.
    :param depth: how many foreaches the parent stands in.
    :param first: the step from which the choices of switches lead on.
    """

    parent: str
    depth: int
    first: str


class Sources(TypedDict, total=False):
    """Where the inputs of a step come from.

    :param branches: the open branches.
    :param foreach: the step whose splits a join closes.
    :param gang: the ``@parallel`` step whose nodes a join closes.
    """

    branches: list[Branch]
    foreach: str
    gang: str


class _Depth(TypedDict):
    depth: int


class WalkedStep(_Depth, total=False):
    """A step through which the inputs of another are looked for.

    :param depth: how many foreaches it stands in.
    :param next: the step that follows; left out of a switch, whose tasks have kept their choice.
    """

    next: str


def sources_of(graph: FlowGraph, step: Step) -> Sources | None:
    """Return where the inputs of a step come from; None for the start step, whose input are the parameters.

    :param graph: the flow.
    :param step: the step.
    """
    if step.name == graph.start:
        return None
    if step.closes is None:
        opener = graph.step(step.splits[-1]) if step.splits else None
        if opener is not None and opener.name in step.parents:
            # The first of its branch.
            return {"branches": [_only(opener)]}
        if len(step.parents) == 1 and not graph.step(step.parents[0]).recursive:
            # As the general case finds it, which looks at the whole branch.
            return {"branches": [_only(graph.step(step.parents[0]))]}
        return {"branches": [_branch(graph, step, _region_start(graph, step))]}
    opener = graph.step(step.closes)
    if opener.kind is StepKind.PARALLEL:
        return {"gang": opener.next_steps[0]}
    branches = [_branch(graph, step, first) for first in opener.next_steps]
    return {"foreach": opener.name, "branches": branches} if opener.kind is StepKind.FOREACH else {"branches": branches}


def walked_steps(graph: FlowGraph, step: Step) -> dict[str, WalkedStep]:
    """Return the facts of the steps through which the inputs of a step must be looked for.

    :param graph: the flow.
    :param step: the step.
    """
    branches = (sources_of(graph, step) or Sources()).get("branches", [])
    names = {name for one in branches if "first" in one for name in reachable(graph, one["first"], step.name)}
    return {name: _facts(graph.step(name)) for name in sorted(names) if _leads_to(graph, name, step)}


def _facts(step: Step) -> WalkedStep:
    known: WalkedStep = {"depth": len(step.foreach_path)}
    if step.kind is not StepKind.SWITCH:
        known["next"] = _following(step)[0]
    return known


def _branch(graph: FlowGraph, step: Step, first: str) -> Branch:
    inside = reachable(graph, first, step.name)
    parents = [graph.step(name) for name in step.parents if name in inside]
    if len(parents) == 1 and not parents[0].recursive:
        return _only(parents[0])
    return {"first": first}


def _only(parent: Step) -> Branch:
    return {"parent": parent.name, "depth": len(parent.foreach_path)}


def _region_start(graph: FlowGraph, step: Step) -> str:
    """Return the first step of the innermost branch that a step stands in."""
    if not step.splits:
        return graph.start
    opener = graph.step(step.splits[-1])
    return next(first for first in opener.next_steps if first == step.name or _leads_to(graph, first, step))


def _leads_to(graph: FlowGraph, first: str, step: Step) -> bool:
    return any(step.name in _following(graph.step(name)) for name in reachable(graph, first, step.name))


def reachable(graph: FlowGraph, first: str, end: str) -> set[str]:
    """Return the steps between two, those inside of splits left out: their join comes next.

    :param graph: the flow.
    :param first: where to begin.
    :param end: where to end; not among them.
    """
    found: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in found or name == end:
            continue
        found.add(name)
        step = graph.step(name)
        # The split that the end stands in is not passed over.
        waiting.extend(_following(step) if step.closed_by != end else step.next_steps)
    return found


def _following(step: Step) -> tuple[str, ...]:
    return (step.closed_by,) if step.closed_by is not None else step.next_steps
