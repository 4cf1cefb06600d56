"""The graph model that all targets share: frozen typed data, standard library only."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec


class StepKind(str, Enum):
    """How a step goes on: what its ``self.next`` call is, or that it closes or ends something."""

    LINEAR = "linear"
    SPLIT = "split"
    FOREACH = "foreach"
    PARALLEL = "parallel"
    """Fans out with ``num_parallel`` to a gang of ``@parallel`` tasks."""
    SWITCH = "switch"
    JOIN = "join"
    END = "end"


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a step may be attempted again (``step_task_retry_count`` of its decorators).

    :param user: retries that run user code (``@retry``).
    :param error: further retries that run a fallback (``@catch``), used up by hard kills only.
    :param delay_seconds: pause between two attempts; None leaves it to the target's default.
    """

    user: int = 0
    error: int = 0
    delay_seconds: float | None = None


class Decorator(msgspec.Struct, frozen=True, kw_only=True):
    """One decorator of a step or flow, as Metaflow sees it after configs and mutators ran.

    :param name: Metaflow's name of the decorator, e.g. ``kubernetes``.
    :param attributes: its attributes, reduced to JSON types.
    """

    name: str
    attributes: dict[str, Any]


class SwitchCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case of a switch: the literal of the condition as text, and the step it leads to."""

    value: str
    step: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a flow.

    :param name: name of the step.
    :param kind: how it goes on.
    :param next_steps: successors in source order, each once; a recursive switch does not list itself.
    :param parents: predecessors, without itself.
    :param splits: the open splits and foreaches around the step, outermost first. A join still lists the
        one that it closes.
    :param foreach_path: the foreach steps (not static splits, not ``num_parallel``) in whose body the step is,
        outermost first. One task of the step exists per index of each of them.
    :param closes: for a join, the split or foreach step that it closes.
    :param closed_by: for a split or foreach, its matching join.
    :param foreach_artifact: name of the artifact that a foreach iterates over.
    :param condition: name of the artifact that a switch looks at.
    :param cases: cases of a switch in source order.
    :param recursive: whether one case of the switch is the step itself.
    :param gang: whether the step carries ``@parallel``.
    :param retry: attempts.
    :param timeout_seconds: limit of one attempt, from ``@timeout``; None without one.
    :param environment: variables of ``@environment``.
    :param with_specs: decorator specs that are not in the source and must be given by ``--with``.
    :param decorators: all decorators, for targets that map their attributes.
    :param doc: docstring.
    :param line: line of the step in the flow file.
    """

    name: str
    kind: StepKind
    next_steps: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    foreach_path: tuple[str, ...] = ()
    closes: str | None = None
    closed_by: str | None = None
    foreach_artifact: str | None = None
    condition: str | None = None
    cases: tuple[SwitchCase, ...] = ()
    recursive: bool = False
    gang: bool = False
    retry: Retry = Retry()
    timeout_seconds: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    with_specs: tuple[str, ...] = ()
    decorators: tuple[Decorator, ...] = ()
    doc: str = ""
    line: int | None = None


class ParameterType(str, Enum):
    """The types that Metaflow gives to parameters."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STR = "str"
    JSON = "json"
    FILE = "file"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a flow.

    :param name: name as given to ``Parameter``, used on the command line.
    :param variable: name of the attribute in the flow class.
    :param type: its type.
    :param default: the default as it was at deploy time, in the text form of Metaflow's command line; None means
        that the flow sees ``None`` unless a value is given.
    :param required: whether a value must be given at trigger time.
    :param help: description.
    :param separator: separator of a list parameter.
    :param is_text: for a file, whether it is read as text.
    :param encoding: for a file, its encoding.
    """

    name: str
    variable: str
    type: ParameterType
    default: str | None = None
    required: bool = False
    help: str = ""
    separator: str | None = None
    is_text: bool = True
    encoding: str | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """``@schedule`` of a flow.

    :param cron: the expression as Metaflow holds it: AWS form with six fields, or plain cron with five.
    :param timezone: IANA name; None is UTC.
    """

    cron: str
    timezone: str | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """``@project`` of a flow, with the branch that it was deployed to."""

    name: str
    branch: str
    production: bool
    flow_name: str
    """``project.branch.Flow``, the name under which the flow is deployed."""


class FlowGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A whole flow: its steps in topological order and what belongs to the flow itself."""

    name: str
    start: str
    end: str
    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...] = ()
    schedule: Schedule | None = None
    project: Project | None = None
    decorators: tuple[Decorator, ...] = ()
    doc: str = ""

    def step(self, name: str) -> Step:
        """Return the step of that name.

        :param name: a step's name.
        :raises KeyError: if there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)
