"""The plan of a flow on Argo: which templates there are, and what each task of a DAG waits for. No target import.

A task is started only by what its parents have *done*: every reference to an output stands in a task that depends on
the success of the one that has it. So nothing refers to the output of a skipped task, which Argo 3.7.11 and later never
resolves (metaflow#3043). Ids of tasks are not handed on at all: a container finds its inputs in the datastore
(``sources.py``), so a foreach costs its join neither lists nor arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaflow_adapters.sources import reachable
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind

from .names import Names, dashed

PLACE = "place"
"""Input parameter of templates inside a foreach: the index path."""

ITERATION = "iteration"
NODES = "nodes"
SPLITS = "splits"
NEXT = "next"
PATHSPEC = "pathspec"
"""Output parameter of the last step of a flow that is a part of a user's workflow: its run."""

_OUTPUTS = {StepKind.FOREACH: (SPLITS, "0"), StepKind.PARALLEL: (NODES, "0"), StepKind.SWITCH: (NEXT, "")}
"""What a task reports to the orchestrator, and the default for a task that reported nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task of a DAG template.

    :param name: its name.
    :param template: name of the template that it runs.
    :param depends: Argo's ``depends``; empty for a task that starts at once.
    :param when: Argo's ``when``; empty for always.
    :param count: number of times that it runs, as a reference; None for once.
    :param arguments: pairs of a parameter's name and value.
    """

    name: str
    template: str
    depends: str = ""
    when: str = ""
    count: str | None = None
    arguments: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DagPlan:
    """The steps that share one foreach path.

    :param name: name of the template.
    :param tasks: its tasks in topological order.
    :param has_place: whether it takes an index path.
    """

    name: str
    tasks: tuple[TaskPlan, ...]
    has_place: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The container of one step.

    :param name: name of the template.
    :param step: name of the step.
    :param inputs: names of its parameters.
    :param output: what it reports to the orchestrator, and the default of that.
    """

    name: str
    step: str
    inputs: tuple[str, ...]
    output: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """A recursive switch: its container, and then the template itself while the switch chooses itself.

    :param name: name of the template.
    :param step: name of the step.
    :param template: template of its container.
    :param has_place: whether it takes an index path.
    """

    name: str
    step: str
    template: str
    has_place: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPlan:
    """All templates of a flow.

    :param entrypoint: the template that is the whole flow.
    :param dags: the flow itself, then the bodies of foreaches.
    :param loops: recursive switches.
    :param steps: containers, in topological order of the steps.
    :param gate: name of the template that lets a choice through without a pod; None if there is none.
    """

    entrypoint: str
    dags: tuple[DagPlan, ...]
    loops: tuple[LoopPlan, ...]
    steps: tuple[StepPlan, ...]
    gate: str | None

    def container_of(self, step: str) -> str:
        """Return the name of the template of a step's container.

        :param step: name of the step.
        """
        return next(one.name for one in self.steps if one.step == step)


def plan_flow(graph: FlowGraph, *, prefix: str = "") -> FlowPlan:
    """Return the plan of a flow.

    :param graph: the flow.
    :param prefix: what the names of templates start with, for a flow that is a part of a user's workflow.
    """
    return _Planner(graph, prefix).plan()


class _Planner:
    def __init__(self, graph: FlowGraph, prefix: str) -> None:
        self._graph = graph
        self._embedded = bool(prefix)
        names = Names(prefix)
        self._entrypoint = prefix or names.take(graph.name)
        self._containers = {step.name: names.take(step.name) for step in graph.steps}
        self._loops = {step.name: names.take(f"{step.name}-loop") for step in graph.steps if step.recursive}
        foreaches = [step for step in graph.steps if step.kind is StepKind.FOREACH]
        self._bodies = {step.name: names.take(f"{step.name}-foreach") for step in foreaches}
        self._gate = names.take("gate")
        self._uses_gate = False
        self._task_names: dict[tuple[str, ...], Names] = {}
        self._tasks = {step.name: self._task_name(step.foreach_path, step.name) for step in graph.steps}
        self._groups = {step.name: self._group_name(step) for step in foreaches}

    def plan(self) -> FlowPlan:
        dags = [self._dag((), self._entrypoint)]
        dags += [
            self._dag((*self._path(name), name), body) for name, body in self._bodies.items() if self._is_dag(name)
        ]
        return FlowPlan(
            entrypoint=self._entrypoint,
            dags=tuple(dags),
            loops=tuple(self._loop(name) for name in self._loops),
            steps=tuple(self._step(step) for step in self._graph.steps),
            gate=self._gate if self._uses_gate else None,
        )

    def _path(self, name: str) -> tuple[str, ...]:
        return self._graph.step(name).foreach_path

    def _task_name(self, path: tuple[str, ...], name: str) -> str:
        return self._task_names.setdefault(path, Names()).take(name)

    def _body_steps(self, foreach: str) -> list[Step]:
        path = (*self._path(foreach), foreach)
        return [step for step in self._graph.steps if step.foreach_path == path]

    def _is_dag(self, foreach: str) -> bool:
        """Tell whether a body needs a DAG of its own; one step runs as it is."""
        return len(self._body_steps(foreach)) > 1

    def _group_name(self, foreach: Step) -> str:
        steps = self._body_steps(foreach.name)
        text = f"{foreach.name}-foreach" if len(steps) > 1 else steps[0].name
        return self._task_name(foreach.foreach_path, text)

    def _dag(self, path: tuple[str, ...], name: str) -> DagPlan:
        tasks: list[TaskPlan] = []
        for step in self._graph.steps:
            if step.foreach_path == path:
                tasks += [*self._gates(step), self._task(step, path)]
                if step.kind is StepKind.FOREACH:
                    tasks.append(self._group(step, path))
        return DagPlan(name=name, tasks=tuple(tasks), has_place=self._has_place(path))

    def _has_place(self, path: tuple[str, ...]) -> bool:
        return self._embedded or bool(path)

    def _place(self, path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return ((PLACE, f"{{{{inputs.parameters.{PLACE}}}}}"),) if self._has_place(path) else ()

    def _task(self, step: Step, path: tuple[str, ...]) -> TaskPlan:
        arguments = self._place(path)
        if step.gang:
            arguments = (*arguments, (NODES, self._output(step.parents[0], NODES)))
        return TaskPlan(
            name=self._tasks[step.name],
            template=self._loops.get(step.name, self._containers[step.name]),
            depends=self._depends(step),
            when=self._when(step),
            arguments=arguments,
        )

    def _group(self, foreach: Step, path: tuple[str, ...]) -> TaskPlan:
        """Return the task that runs the body of a foreach once per split."""
        outer = f"{{{{inputs.parameters.{PLACE}}}}}-" if self._has_place(path) else ""
        body = self._bodies[foreach.name]
        if not self._is_dag(foreach.name):
            (only,) = self._body_steps(foreach.name)
            body = self._loops.get(only.name, self._containers[only.name])
        return TaskPlan(
            name=self._groups[foreach.name],
            template=body,
            depends=f"{self._tasks[foreach.name]}.Succeeded",
            count=self._output(foreach.name, SPLITS),
            arguments=((PLACE, f"{outer}{{{{item}}}}"),),
        )

    def _output(self, name: str, output: str) -> str:
        return f"{{{{tasks.{self._tasks[name]}.outputs.parameters.{output}}}}}"

    def _is_inside(self, step: Step) -> bool:
        """Tell whether a step follows its parents inside of one DAG; the first of a body starts with its DAG."""
        parents = [self._graph.step(name) for name in step.parents]
        return bool(parents) and not any(
            parent.kind is StepKind.FOREACH and parent.closed_by != step.name for parent in parents
        )

    def _depends(self, step: Step) -> str:
        if not self._is_inside(step):
            return ""
        if step.closes is not None:
            opener = self._graph.step(step.closes)
            if opener.kind is StepKind.FOREACH:
                return f"{self._groups[opener.name]}.Succeeded"
            if opener.kind is StepKind.SPLIT:
                parts = [self._any_of(step, self._branch_parents(step, first)) for first in opener.next_steps]
                return " && ".join(f"({part})" if "||" in part else part for part in parts)
        return self._any_of(step, step.parents)

    def _branch_parents(self, join: Step, first: str) -> list[str]:
        inside = reachable(self._graph, first, join.name)
        return [name for name in join.parents if name in inside]

    def _any_of(self, step: Step, parents: tuple[str, ...] | list[str]) -> str:
        names = [self._gate_name(name, step) if self._is_gated(name, step) else self._tasks[name] for name in parents]
        return " || ".join(f"{name}.Succeeded" for name in names)

    def _when(self, step: Step) -> str:
        if len(step.parents) != 1 or not self._is_inside(step):
            return ""
        parent = self._graph.step(step.parents[0])
        return self._chosen(parent, step) if parent.kind is StepKind.SWITCH else ""

    def _chosen(self, switch: Step, step: Step) -> str:
        return f"'{self._output(switch.name, NEXT)}' == '{step.name}'"

    def _is_gated(self, parent: str, step: Step) -> bool:
        """Tell whether a choice leads straight to a step that has other ways to it, too.

        Its own condition would have to refer to the outputs of switches that may have been skipped.
        """
        return len(step.parents) > 1 and self._graph.step(parent).kind is StepKind.SWITCH

    def _gate_name(self, parent: str, step: Step) -> str:
        return f"{dashed(parent)}-to-{dashed(step.name)}"

    def _gates(self, step: Step) -> list[TaskPlan]:
        gated = [self._graph.step(name) for name in step.parents if self._is_gated(name, step)]
        self._uses_gate = self._uses_gate or bool(gated)
        return [
            TaskPlan(
                name=self._gate_name(parent.name, step),
                template=self._gate,
                depends=f"{self._tasks[parent.name]}.Succeeded",
                when=self._chosen(parent, step),
            )
            for parent in gated
        ]

    def _loop(self, name: str) -> LoopPlan:
        return LoopPlan(
            name=self._loops[name],
            step=name,
            template=self._containers[name],
            has_place=self._has_place(self._path(name)),
        )

    def _step(self, step: Step) -> StepPlan:
        inputs = [PLACE] if self._has_place(step.foreach_path) else []
        if step.recursive:
            inputs.append(ITERATION)
        if step.gang:
            inputs.append(NODES)
        output = (PATHSPEC, "") if self._embedded and step.kind is StepKind.END else _OUTPUTS.get(step.kind)
        return StepPlan(name=self._containers[step.name], step=step.name, inputs=tuple(inputs), output=output)
