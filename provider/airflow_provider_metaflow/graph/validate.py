"""Checks of a graph that hold for every target; Metaflow's own lint has passed before."""

from __future__ import annotations

from airflow_provider_metaflow.exceptions import FlowCompileError

from .model import FlowGraph, Step, StepKind


def validate_graph(graph: FlowGraph) -> None:
    """Check what the planners of all targets take for granted.

    :param graph: a graph as read from a flow or from a manifest.
    :raises FlowCompileError: naming the step that breaks a rule.
    """
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
    _validate_parameters(graph)


def _validate_edges(graph: FlowGraph, step: Step, known: set[str], seen: set[str]) -> None:
    for other in (*step.next_steps, *step.parents, *step.splits, *step.foreach_path):
        if other not in known:
            raise FlowCompileError(f"refers to an unknown step {other!r}.", flow=graph.name, step=step.name)
    late = [parent for parent in step.parents if parent not in seen]
    if late:
        raise FlowCompileError(
            f"comes before its parent {late[0]!r}: the graph is not in topological order.",
            flow=graph.name,
            step=step.name,
        )


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
