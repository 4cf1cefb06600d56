"""The graph model that all targets share: frozen typed data, standard library only."""

# Without postponed annotations: msgspec would have to compile each of them when a DAG file is parsed.

from enum import Enum
from functools import cached_property
from hashlib import sha256
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


class Retry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often a step may be attempted again (``step_task_retry_count`` of its decorators).

    :param user: retries that run user code (``@retry``).
    :param error: further retries that run a fallback (``@catch``), used up by hard kills only.
    :param delay_seconds: pause between two attempts; None leaves it to the target's default.
    """

    user: int = 0
    error: int = 0
    delay_seconds: float | None = None


class Decorator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decorator of a step or flow, as Metaflow sees it after configs and mutators ran.

    :param name: Metaflow's name of the decorator, e.g. ``kubernetes``.
    :param attributes: its attributes, reduced to JSON types.
    """

    name: str
    attributes: dict[str, Any]


class SwitchCase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One case of a switch: the literal of the condition as text, and the step it leads to."""

    value: str
    step: str


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``@schedule`` of a flow.

    :param cron: the expression as Metaflow holds it: AWS form with six fields, or plain cron with five.
    :param timezone: IANA name; None is UTC.
    """

    cron: str
    timezone: str | None = None


class EventTrigger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that a flow waits for, from ``@trigger`` or ``@trigger_on_finish``.

    :param event: name of the event.
    :param parameters: pairs of a parameter's name and the field of the event's payload that it takes its value from.
    :param all_needed: whether the payload must hold every field; not so where the fields are not named in the flow.
    :param of_run: whether the event is the end of a run of another flow.
    """

    event: str
    parameters: tuple[tuple[str, str], ...] = ()
    all_needed: bool = False
    of_run: bool = False


class ExitHook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One function of ``@exit_hook``.

    :param function: its name in the flow file, or its import path.
    :param on_success: whether it is for runs that succeeded; else for those that failed.
    """

    function: str
    on_success: bool


class SensorKind(str, Enum):
    """Sensors that may stand before a flow: the ``@airflow_…_sensor`` flow decorators of Metaflow."""

    EXTERNAL_TASK = "external_task"
    S3_KEY = "s3_key"


class Sensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sensor that the flow waits for before it starts.

    :param kind: what it waits for.
    :param name: its name; the task id on Airflow.
    :param arguments: arguments of the sensor as JSON types; time spans in seconds.
    """

    kind: SensorKind
    name: str
    arguments: dict[str, Any]


class Project(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``@project`` of a flow, with the branch that it was deployed to."""

    name: str
    branch: str
    production: bool
    flow_name: str
    """``project.branch.Flow``, the name under which the flow is deployed."""


class FlowGraph(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """A whole flow: its steps in topological order and what belongs to the flow itself."""

    name: str
    start: str
    end: str
    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...] = ()
    schedule: Schedule | None = None
    project: Project | None = None
    triggers: tuple[EventTrigger, ...] = ()
    trigger_reset: Schedule | None = None
    """When events that have come are forgotten, although others are still waited for."""
    exit_hooks: tuple[ExitHook, ...] = ()
    sensors: tuple[Sensor, ...] = ()
    decorators: tuple[Decorator, ...] = ()
    doc: str = ""

    @property
    def deployed_name(self) -> str:
        """Name of the flow in events: ``project.branch.Flow`` for a ``@project``, else the flow's own."""
        return self.project.flow_name if self.project else self.name

    def step(self, name: str) -> Step:
        """Return the step of that name.

        :param name: a step's name.
        :raises KeyError: if there is none.
        """
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def shape(self) -> str:
        """A digest of the steps and of what leads to what, the same for two versions of one shape."""
        parts = [
            (step.name, step.kind.value, step.next_steps, step.foreach_path, step.closes, step.recursive, step.gang)
            for step in self.steps
        ]
        return sha256(repr(parts).encode()).hexdigest()[:16]

    def with_descendants(self, name: str) -> frozenset[str]:
        """Return the names of a step and of all that may follow it.

        :param name: a step's name.
        :raises KeyError: if there is none.
        """
        chosen = {self.step(name).name}
        for step in self.steps:  # in topological order
            if step.name in chosen:
                chosen.update(step.next_steps)
        return frozenset(chosen)
