"""What the Airflow DAG of a flow looks like: all policy, no Airflow import.

One Metaflow step is one Airflow task. Steps in the body of a foreach stand in mapped task groups, *segments*, expanded
over the list of the foreach's index contexts. Airflow refuses nested mapping at run time (measured on 3.3.2), so a
nested foreach is a segment of its own over the flattened list of all its splits, made by a small splits task, and the
steps after its join are a further segment over the outer list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import ExitHook, FlowGraph, Step, StepKind
from metaflow_orchestration.graph.naming import emitted_events, end_event

MAP_LABEL = "metaflow_split"
"""Context variable that ``map_index_template`` shows: the value of the foreach."""

DEFAULT_RETRY_DELAY_SECONDS = 120.0
"""Of ``@retry`` (``minutes_between_retries=2``), used for ``@catch`` without ``@retry`` too."""

_SPLITS_RETRIES = 3
"""Of tasks that run no code of the flow, so that only what happens to their worker can end them: that of a step
without ``@retry`` costs no run."""

ALL_RULE = "all_success"
"""For a step whose parents are executed or skipped together; a skipped parent skips it."""

SOME_RULE = "none_failed_min_one_success"
"""For a step that some of its parents may leave to the others: it runs when one was executed and none failed."""


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One Airflow task for one step.

    :param step: the step; its name is the task id.
    :param upstream: task ids that come directly before, without the source of its segment.
    :param segment: group id of its segment.
    :param trigger_rule: Airflow trigger rule.
    :param retries: retries of the Airflow task; None leaves them to ``default_args``.
    :param retry_delay_seconds: pause between tries.
    :param doc: docstring of the step.
    :param events: names of the events that it emits when it succeeds.
    """

    step: str
    upstream: tuple[str, ...]
    segment: str | None
    trigger_rule: str
    retries: int | None
    retry_delay_seconds: float | None
    doc: str
    events: tuple[str, ...] = ()


class ExitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One task that runs a function of ``@exit_hook`` after all steps.

    :param task_id: its id.
    :param hook: the function, and when it runs.
    """

    task_id: str
    hook: ExitHook


class SegmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One mapped task group.

    :param group_id: its id; a dash, which no step name can hold, keeps it apart from the steps.
    :param label: what Airflow shows in the place of the id.
    :param foreach: the innermost foreach step around it.
    :param source: task whose return value is the list of index contexts.
    """

    group_id: str
    label: str
    foreach: str
    source: str


class SplitsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The task that flattens the splits of a nested foreach into one list of index contexts.

    :param task_id: its id.
    :param foreach: the foreach step, itself in a segment.
    :param retries: retries of the task.
    :param retry_delay_seconds: pause between tries.
    """

    task_id: str
    foreach: str
    retries: int
    retry_delay_seconds: float = 5.0


class DagPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a flow, in topological order, and what stands before and after them."""

    tasks: tuple[TaskPlan, ...]
    segments: tuple[SegmentPlan, ...]
    splits: tuple[SplitsPlan, ...]
    exits: tuple[ExitPlan, ...] = ()


class _Segments:
    """Assigns steps to segments: by foreach path, and by how many inner foreaches were joined before."""

    def __init__(self, graph: FlowGraph) -> None:
        self._steps = {step.name: step for step in graph.steps}
        self._phases: dict[str, int] = {}
        for step in graph.steps:  # parents come first
            self._phases[step.name] = self._phase(step)

    def _phase(self, step: Step) -> int:
        before = [self._phases[name] for name in step.parents if self._steps[name].foreach_path == step.foreach_path]
        closed = self._steps[step.closes] if step.closes else None
        if closed is not None and closed.kind is StepKind.FOREACH:
            before.append(self._phases[closed.name] + 1)
        return max(before, default=0)

    def group_id(self, step: Step) -> str | None:
        if not step.foreach_path:
            return None
        phase = self._phases[step.name]
        suffix = f"-{phase + 1}" if phase else ""
        return f"{step.foreach_path[-1]}-foreach{suffix}"

    def label(self, step: Step) -> str:
        return f"for each split of {step.foreach_path[-1]}{', continued' if self._phases[step.name] else ''}"


def plan_of(manifest: Manifest) -> DagPlan:
    """Plan the tasks of a compiled flow; a DAG file and a check of the flow both do.

    :param manifest: the compiled flow.
    """
    deployment = manifest.deployment
    return plan_dag(manifest.graph, emit_events=deployment.emit_events, emit_step_events=deployment.emit_step_events)


def plan_dag(graph: FlowGraph, *, emit_events: bool = True, emit_step_events: bool = False) -> DagPlan:
    """Plan the tasks of a flow.

    :param graph: the flow.
    :param emit_events: whether the end of a run emits an event.
    :param emit_step_events: whether each step emits one, too.
    """
    assignment = _Segments(graph)
    switches = any(step.kind is StepKind.SWITCH for step in graph.steps)
    by_name = {step.name: step for step in graph.steps}
    nested = tuple(
        SplitsPlan(
            task_id=splits_task_id(step.name),
            foreach=step.name,
            retries=max(_SPLITS_RETRIES, step.retry.user + step.retry.error),
        )
        for step in graph.steps
        if step.kind is StepKind.FOREACH and step.foreach_path
    )
    segments: dict[str, SegmentPlan] = {}
    tasks = []
    for step in graph.steps:
        group_id = assignment.group_id(step)
        if group_id is not None:
            foreach = by_name[step.foreach_path[-1]]
            segments.setdefault(
                group_id,
                SegmentPlan(
                    group_id=group_id,
                    label=assignment.label(step),
                    foreach=foreach.name,
                    source=contexts_task_id(foreach),
                ),
            )
        events: tuple[str, ...] = ()
        if emit_events and emit_step_events:
            events = emitted_events(graph, step)
        elif emit_events and step.name == graph.end:
            events = (end_event(graph),)
        task = _plan_task(by_name, step, group_id, switches=switches)
        tasks.append(msgspec.structs.replace(task, events=events))
    return DagPlan(
        tasks=tuple(tasks), segments=tuple(segments.values()), splits=nested, exits=tuple(_plan_exits(graph))
    )


def _plan_exits(graph: FlowGraph) -> Iterator[ExitPlan]:
    taken: set[str] = set()
    for hook in graph.exit_hooks:
        # A dash keeps it apart from the steps.
        stem = f"on-{'success' if hook.on_success else 'error'}-{hook.function.replace('.', '-')}"
        task_id, number = stem, 1
        while task_id in taken:
            number += 1
            task_id = f"{stem}-{number}"
        taken.add(task_id)
        yield ExitPlan(task_id=task_id, hook=hook)


def splits_task_id(foreach: str) -> str:
    """Return the id of the splits task of a nested foreach.

    :param foreach: name of the foreach step.
    """
    return f"{foreach}-splits"


def contexts_task_id(foreach: Step) -> str:
    """Return the task whose return value lists the index contexts of a foreach.

    :param foreach: the foreach step.
    """
    return splits_task_id(foreach.name) if foreach.foreach_path else foreach.name


def _plan_task(by_name: Mapping[str, Step], step: Step, group_id: str | None, *, switches: bool) -> TaskPlan:
    retries = step.retry.user + step.retry.error
    delay = step.retry.delay_seconds
    return TaskPlan(
        step=step.name,
        upstream=tuple(name for name in step.parents if not _enters(by_name[name], step)),
        segment=group_id,
        trigger_rule=SOME_RULE if switches and _is_fed_by_several(by_name, step) else ALL_RULE,
        # `@retry(times=0)` must hold under `default_args`, too.
        retries=retries if retries or any(one.name == "retry" for one in step.decorators) else None,
        retry_delay_seconds=(DEFAULT_RETRY_DELAY_SECONDS if delay is None else delay) if retries else delay,
        doc=step.doc,
    )


def _enters(parent: Step, step: Step) -> bool:
    """Whether the edge is the one into a foreach's body, which the expansion of the segment stands for."""
    return parent.kind is StepKind.FOREACH and step.foreach_path[-1:] == (parent.name,)


def _is_fed_by_several(by_name: Mapping[str, Step], step: Step) -> bool:
    """Whether several tasks feed a task of the step, so that a switch may have left out some of them."""
    closed = by_name[step.closes] if step.closes else None
    return len(step.parents) > 1 or (closed is not None and closed.kind is StepKind.FOREACH)
