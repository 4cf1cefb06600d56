"""Checks of a graph that hold for every target; Metaflow's own lint has passed before."""

from __future__ import annotations

import re

from metaflow_orchestration.exceptions import FlowCompileError

from .model import FlowGraph, Step, StepKind

_MAX_NAME = 200
"""Of a step: Airflow's ids have 250 characters, of which prefixes and suffixes take some."""

_PARAMETER = re.compile(r"[^\W\d][\w.-]*")
_OPENERS = (StepKind.SPLIT, StepKind.FOREACH, StepKind.PARALLEL)


def validate_graph(graph: FlowGraph) -> None:
    """Check what the planners of all targets take for granted.

    :param graph: a graph as read from a flow or from a manifest.
    :raises FlowCompileError: naming the step that breaks a rule.
    """
    _validate_names(graph)
    names = [step.name for step in graph.steps]
    known = set(names)
    if len(known) != len(names):
        raise FlowCompileError("a step stands twice in the graph.", flow=graph.name)
    for end in (graph.start, graph.end):
        if end not in known:
            raise FlowCompileError(f"its {end!r} step is missing from the graph.", flow=graph.name)
    seen: set[str] = set()
    for step in graph.steps:
        _validate_edges(graph, step, known, seen)
        _validate_join(graph, step)
        seen.add(step.name)
    for step in graph.steps:
        _validate_region(graph, step)
    _validate_parameters(graph)


def _validate_edges(graph: FlowGraph, step: Step, known: set[str], seen: set[str]) -> None:
    regions = [name for name in (step.closes, step.closed_by) if name is not None]
    chosen = [case.step for case in step.cases]
    for other in (*step.next_steps, *step.parents, *step.splits, *step.foreach_path, *regions, *chosen):
        if other not in known:
            raise FlowCompileError(f"refers to an unknown step {other!r}.", flow=graph.name, step=step.name)
    late = [parent for parent in step.parents if parent not in seen]
    if late:
        raise FlowCompileError(
            f"comes before its parent {late[0]!r}: the graph is not in topological order.",
            flow=graph.name,
            step=step.name,
        )


def _validate_names(graph: FlowGraph) -> None:
    """Check names that become ids of tasks and options of commands; Python and Metaflow have made sure of them."""
    if not graph.name.isidentifier():
        raise FlowCompileError(f"{graph.name!r:.80} cannot be the name of a flow.", flow=graph.name)
    for step in graph.steps:
        if not step.name.isidentifier() or len(step.name) > _MAX_NAME:
            raise FlowCompileError(f"{step.name!r:.80} cannot be the name of a step.", flow=graph.name)
    for parameter in graph.parameters:
        if _PARAMETER.fullmatch(parameter.name) is None:
            raise FlowCompileError(f"{parameter.name!r:.80} cannot be the name of a parameter.", flow=graph.name)
    for hook in graph.exit_hooks:
        if not all(part.isidentifier() for part in hook.function.split(".")):
            raise FlowCompileError(f"{hook.function!r:.80} cannot be the name of a function.", flow=graph.name)


def _validate_region(graph: FlowGraph, step: Step) -> None:
    """Check that edges are known at both of their ends, and that what surrounds a step opens something."""
    one_way = [name for name in step.next_steps if step.name not in graph.step(name).parents]
    one_way += [name for name in step.parents if step.name not in graph.step(name).next_steps]
    if one_way:
        raise FlowCompileError(
            f"does not agree with {one_way[0]!r} about which of them leads to the other.",
            flow=graph.name,
            step=step.name,
        )
    if (step.name == graph.start) != (not step.parents):
        raise FlowCompileError("is not the start of the flow, or follows a step.", flow=graph.name, step=step.name)
    opened = [graph.step(name) for name in (*step.splits, *filter(None, [step.closes]))]
    foreaches = [graph.step(name) for name in step.foreach_path]
    closed = next((one for one in opened if one.kind not in _OPENERS), None)
    closed = closed or next((one for one in foreaches if one.kind is not StepKind.FOREACH), None)
    if closed is not None:
        raise FlowCompileError(f"stands in {closed.name!r}, which opens nothing.", flow=graph.name, step=step.name)
    _validate_opener(graph, step)


def _validate_opener(graph: FlowGraph, step: Step) -> None:
    join = graph.step(step.closed_by) if step.closed_by is not None else None
    if step.kind in _OPENERS and (join is None or join.closes != step.name or join.kind is not StepKind.JOIN):
        raise FlowCompileError("opens a split that no join closes.", flow=graph.name, step=step.name)
    if step.kind in (StepKind.FOREACH, StepKind.PARALLEL) and len(step.next_steps) != 1:
        raise FlowCompileError("is a foreach that does not lead to one step.", flow=graph.name, step=step.name)
    if step.kind is StepKind.END and (step.next_steps or step.name != graph.end):
        raise FlowCompileError("is the end step and has a next step.", flow=graph.name, step=step.name)
    if step.kind is not StepKind.END and not step.next_steps:
        raise FlowCompileError("leads to no step.", flow=graph.name, step=step.name)


def _validate_join(graph: FlowGraph, step: Step) -> None:
    if step.kind is StepKind.JOIN and step.closes is None:
        raise FlowCompileError("is a join that closes no split.", flow=graph.name, step=step.name)


def _validate_parameters(graph: FlowGraph) -> None:
    seen: dict[str, str] = {}
    for parameter in graph.parameters:
        other = seen.setdefault(parameter.name.lower(), parameter.name)
        if other is not parameter.name:
            raise FlowCompileError(
                f"parameter {parameter.name!r} is specified twice.",
                flow=graph.name,
                hint="Parameter names are case-insensitive; rename one of them.",
            )
        if parameter.required and graph.schedule is not None:
            raise FlowCompileError(
                f"parameter {parameter.name!r} has no default, yet the flow has a @schedule.",
                flow=graph.name,
                hint="A scheduled run has nobody to ask: give the parameter a default or remove the schedule.",
            )
