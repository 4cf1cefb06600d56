"""What a plan is made of: each node becomes a state, a gang several."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class JobKind(str, Enum):
    """What a step is to AWS Batch."""

    SINGLE = "single"
    ARRAY = "array"
    """All tasks of a foreach of one step, as one array job."""
    GANG = "gang"
    """The nodes of a ``@parallel`` step, as one multi-node job; see :class:`GangNode`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all nodes of a plan have.

    :param name: name of the state.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNode(Node):
    """Runs a step.

    :param step: name of the step.
    :param kind: what it is to AWS Batch.
    :param variable: variable with the number of its tasks or nodes; empty for a single one.
    :param next: the node that follows; None ends the scope.
    """

    step: str
    kind: JobKind = JobKind.SINGLE
    variable: str = ""
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GangNode(Node):
    """Runs a ``@parallel`` step, and looks again and again whether it has ended.

    Step Functions waits by itself only for jobs without ``NodeOverrides`` (developer guide, "Run AWS Batch workloads":
    supported parameters), which say how many nodes there are.

    :param step: name of the step.
    :param suffix: what the names of its variables end with.
    :param wait: name of the state that waits.
    :param look: name of the state that looks.
    :param choose: name of the state that decides.
    :param pause: name of the state before another try.
    :param fail: name of the state that gives up.
    :param next: the node that follows.
    """

    step: str
    suffix: str
    wait: str
    look: str
    choose: str
    pause: str
    fail: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNode(Node):
    """Reads what a step has reported: the number of its splits or nodes, or its choice.

    :param step: name of the step.
    :param variable: variable that takes it.
    :param of_gang: whether it is the number of nodes of a gang.
    :param next: the node that follows.
    """

    step: str
    variable: str
    of_gang: bool
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceNode(Node):
    """Goes on as a switch has chosen.

    :param variable: variable with the choice.
    :param ways: pairs of a step that may have been chosen and the node to go to.
    :param default: the node to go to if it was none of them.
    """

    variable: str
    ways: tuple[tuple[str, str], ...]
    default: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitNode(Node):
    """Runs the branches of a split.

    :param branches: their scopes, in the order of the split.
    :param next: the node that follows.
    """

    branches: tuple[ScopePlan, ...]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapNode(Node):
    """Runs the body of a foreach for each of its splits.

    :param step: name of the foreach step.
    :param variable: variable with the number of splits.
    :param body: its scope.
    :param distributed: whether each split is an execution of its own.
    :param max_concurrency: how many run at a time; None leaves it to AWS.
    :param next: the node that follows.
    """

    step: str
    variable: str
    body: ScopePlan
    distributed: bool
    max_concurrency: int | None
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopNode(Node):
    """Ends a scope where a choice leads straight out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopePlan:
    """Nodes that may lead to each other.

    :param start: name of the first.
    :param nodes: all of them.
    """

    start: str
    nodes: tuple[Node, ...]
