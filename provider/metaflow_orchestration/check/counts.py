"""How many tasks a run makes if each foreach has a given number of splits."""

from __future__ import annotations

from metaflow_orchestration.graph.model import FlowGraph, Step

DEFAULT_WIDTH = 10
"""Number of splits of each foreach, where the user names none."""


def tasks_of(step: Step, width: int) -> int:
    """Return how many tasks of a step a run makes.

    :param step: the step.
    :param width: number of splits of each foreach.
    """
    return int(width ** len(step.foreach_path))


def all_tasks(graph: FlowGraph, width: int) -> int:
    """Return how many tasks a run makes in which every step runs, a recursive switch once, and a gang is one node.

    :param graph: the flow.
    :param width: number of splits of each foreach.
    """
    return sum(tasks_of(step, width) for step in graph.steps)


def assumptions(graph: FlowGraph, width: int) -> str:
    """Return what was assumed about a run, as the end of a sentence; empty if nothing was.

    :param graph: the flow.
    :param width: number of splits of each foreach.
    """
    said = []
    if any(step.foreach_path for step in graph.steps):
        said.append(f"{width:,} splits in each foreach")
    if any(step.cases for step in graph.steps):
        said.append("every branch of a switch counted once")
    if any(step.gang for step in graph.steps):
        said.append("a gang counted as one node")
    return f" ({', '.join(said)})" if said else ""
