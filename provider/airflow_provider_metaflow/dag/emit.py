"""Makes Airflow tasks from a plan; decides nothing about a flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import DAG, Asset, AssetAll, AssetAny, BaseOperator, TaskGroup

from airflow_provider_metaflow.formats import Arguments
from airflow_provider_metaflow.operators.step import MetaflowStepOperator
from airflow_provider_metaflow.plan.dag import MAP_LABEL, SOME_RULE, DagPlan, SegmentPlan, SplitsPlan, TaskPlan
from airflow_provider_metaflow.plan.events import ASSET_GROUP, asset_name, watched_name
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import EventTrigger, Step

from .worker_pods import WorkerPods, configured_worker_pods

if TYPE_CHECKING:
    from airflow_provider_metaflow.plan.translator import FlowTranslator


class Emission(msgspec.Struct, kw_only=True):  # a dataclass takes 0.5 ms of each parse to be made
    """Makes the tasks of one flow in one DAG or task group.

    :param manifest: the compiled flow.
    :param plan: its plan.
    :param dag: the DAG.
    :param group: task group to make them in; None is the DAG's root.
    :param id_prefix: what the task ids start with.
    :param shared: operator arguments of all tasks.
    :param compute: operator arguments of all steps that say where and how they run.
    :param start: operator arguments of the start step.
    :param translator: see :class:`FlowTranslator`; None decides nothing.
    :param overrides: operator arguments by step.
    """

    manifest: Manifest
    plan: DagPlan
    dag: DAG
    group: TaskGroup | None
    id_prefix: str
    shared: Mapping[str, Any]
    compute: Mapping[str, Any]
    start: Mapping[str, Any]
    translator: FlowTranslator | None
    overrides: Mapping[str, Mapping[str, Any]]
    tasks: dict[str, BaseOperator] = msgspec.field(default_factory=dict)
    _steps: dict[str, Step] = msgspec.field(default_factory=dict)
    _worker_pods: WorkerPods | None = None

    def emit(self) -> dict[str, BaseOperator]:
        """Make all tasks and edges; return the tasks by the name of their step or splits task."""
        self._steps = {step.name: step for step in self.manifest.graph.steps}
        self._worker_pods = configured_worker_pods(self.dag.dag_id)
        by_segment: dict[str | None, list[TaskPlan]] = {}
        for task in self.plan.tasks:
            by_segment.setdefault(task.segment, []).append(task)
        segments = {segment.group_id: segment for segment in self.plan.segments}
        splits = {one.foreach: one for one in self.plan.splits}
        for task in self.plan.tasks:
            if task.step in self.tasks:
                continue
            if task.segment is None:
                self._make_task(task, self.group)
            else:
                self._make_segment(segments[task.segment], by_segment[task.segment], splits)
        segment_of = {task.step: task.segment for task in self.plan.tasks}
        for task in self.plan.tasks:
            for name in task.upstream:
                # A segment has its inner edges already: its roots must be known when it is closed.
                if task.segment is None or segment_of[name] != task.segment:
                    self.tasks[task.step].set_upstream(self.tasks[name])
        self._pack_arrays()
        self._make_sensors()
        self._make_exits()
        return self.tasks

    def _pack_arrays(self) -> None:
        """Give all splits of a foreach to one task instance if its body is one step that runs as an array job."""
        for source in {segment.source for segment in self.plan.segments}:
            around = {segment.group_id for segment in self.plan.segments if segment.source == source}
            body = [self.tasks[task.step] for task in self.plan.tasks if task.segment in around]
            if len(body) == 1 and getattr(body[0], "runs_arrays", False):
                from metaflow_orchestration.containers.batch_jobs import ARRAY_SIZES

                self.tasks[source].pack_size = ARRAY_SIZES[-1]

    def _make_sensors(self) -> None:
        graph = self.manifest.graph
        if graph.sensors:
            from .sensors import make_sensors

            made = make_sensors(graph, dag=self.dag, task_group=self.group)
            self.tasks[graph.start].set_upstream(made)

    def _make_exits(self) -> None:
        if not self.plan.exits:
            return
        from airflow_provider_metaflow.operators.exit_hook import MetaflowExitHookOperator

        steps = [self.tasks[task.step] for task in self.plan.tasks]
        for plan in self.plan.exits:
            task = MetaflowExitHookOperator(
                task_id=plan.task_id,
                manifest=self.manifest,
                function=plan.hook.function,
                on_success=plan.hook.on_success,
                id_prefix=self.id_prefix,
                dag=self.dag,
                task_group=self.group,
                **self.shared,
            )
            # After all of them, since one branch may still run when another has failed.
            task.set_upstream(steps)
            # A teardown runs whatever became of the steps, and changes nothing about the state of the run.
            task.as_teardown()

    def _make_segment(self, segment: SegmentPlan, members: list[TaskPlan], splits: Mapping[str, SplitsPlan]) -> None:
        from airflow.sdk import task_group

        if segment.source not in self.tasks:
            self._make_splits(splits[segment.foreach])
        _check_mapped_over(self.manifest.graph.name, segment.foreach, self.tasks[segment.source])

        @task_group(
            group_id=segment.group_id,
            prefix_group_id=False,
            parent_group=self.group,
            dag=self.dag,
            group_display_name=segment.label,
            tooltip=f"The steps between the foreach of {segment.foreach} and its join; an instance of the group runs "
            "one split, or several of a very wide foreach.",
        )
        def body(context: Any) -> None:  # noqa: ARG001  (read by each task at run time)
            for member in members:
                self._make_task(member, None)
            names = {member.step for member in members}
            for member in members:
                for name in names.intersection(member.upstream):
                    self.tasks[member.step].set_upstream(self.tasks[name])

        body.expand(context=self.tasks[segment.source].output)

    def _make_splits(self, plan: SplitsPlan) -> None:
        from airflow_provider_metaflow.operators.splits import MetaflowSplitsOperator

        foreach = self.tasks[plan.foreach]
        arguments = dict(self.shared)
        if not self._has_default("retries"):
            arguments.update(retries=plan.retries, retry_delay=timedelta(seconds=plan.retry_delay_seconds))
        task = MetaflowSplitsOperator(
            task_id=plan.task_id,
            task_display_name=f"all splits of {plan.foreach}",
            doc_md=f"Lists the splits of all tasks of `{plan.foreach}`, a foreach inside of another one, so that "
            "Airflow can run an instance of the next group for each. It runs no code of the flow.",
            foreach_task_id=foreach.task_id,
            trigger_rule=SOME_RULE,
            multiple_outputs=False,
            dag=self.dag,
            task_group=self.group,
            **arguments,
        )
        task.set_upstream(foreach)
        self.tasks[plan.task_id] = task

    def _make_task(self, plan: TaskPlan, group: TaskGroup | None) -> None:
        graph = self.manifest.graph
        if plan.segment is not None and plan.trigger_rule == SOME_RULE and len(plan.upstream) > 1:
            _check_release(graph.name, plan.step)
        # What means something else for operators of other kinds is not left to the default_args of a larger DAG.
        arguments: Arguments = {"multiple_outputs": False, "parameters": None}
        arguments.update(trigger_rule=plan.trigger_rule, **self.shared, **self.compute)
        if plan.segment is not None and not self._has_default("map_index_template"):
            arguments["map_index_template"] = f"{{{{ {MAP_LABEL} }}}}"
        if plan.retries is not None:
            arguments["retries"] = plan.retries
        if plan.retry_delay_seconds is not None:
            arguments["retry_delay"] = timedelta(seconds=plan.retry_delay_seconds)
        if plan.doc:
            arguments["doc_md"] = plan.doc
        if plan.step == graph.start:
            arguments.update(self.start)
        if group is not None:
            arguments["task_group"] = group
        arguments = _merged(arguments, self._chosen(plan))
        made = self.tasks[plan.step] = MetaflowStepOperator(
            # A segment does not prefix the ids of its tasks, so that they stay when a body changes.
            task_id=plan.step if plan.segment is None else f"{self.id_prefix}{plan.step}",
            manifest=self.manifest,
            step=plan.step,
            id_prefix=self.id_prefix,
            dag=self.dag,
            **arguments,
        )
        if self._worker_pods is not None:
            # Airflow has looked by now for what the user says, here or in default_args.
            self._worker_pods.ask(made)
        if plan.events:
            # Beside what the user has given, here or in default_args. And not by way of one alias, though that is
            # smaller: Airflow makes an alias's assets when a task ends, and fails the task if another makes the same
            # one at the time (unique key; measured on 3.3.2).
            made.outlets = [*(event_asset(event) for event in plan.events), *made.outlets]

    def _has_default(self, name: str) -> bool:
        """Tell whether an operator argument is in the default_args around the flow."""
        return name in self.dag.default_args or (self.group is not None and name in (self.group.default_args or {}))

    def _chosen(self, plan: TaskPlan) -> Arguments:
        """Return what the user decides about a step."""
        if self.translator is None:
            return dict(self.overrides.get(plan.step, {}))
        from airflow_provider_metaflow.plan.translator import StepContext, step_arguments

        step = self._steps[plan.step]
        context = StepContext(flow=self.manifest.graph, step=step, mapped=plan.segment is not None)
        return step_arguments(self.translator, context, self.overrides, BaseOperator)


def _merged(arguments: Mapping[str, Any], chosen: Mapping[str, Any]) -> Arguments:
    """Return the arguments of a task with what the user has chosen for its step."""
    merged = {**arguments, **chosen}
    for name in ("kubernetes", "batch"):
        if name in chosen and name in arguments:
            merged[name] = {**arguments[name], **chosen[name]}
    return merged


def event_asset(event: str) -> Asset:
    """Return the asset of an event.

    :param event: name of the event.
    """
    return _asset(asset_name(event))


def _asset(name: str, **more: Any) -> Asset:
    return Asset(name, group=ASSET_GROUP, **more)


def event_condition(triggers: Sequence[EventTrigger], watchers: Mapping[str, Sequence[Any]], dag_id: str) -> AssetAll:
    """Return the assets that a flow is scheduled on: all its events must come, published or seen by a watcher.

    :param triggers: what it waits for.
    :param watchers: Airflow's watchers by event.
    :param dag_id: the DAG.
    """

    def condition(event: str) -> Asset | AssetAny:
        published = event_asset(event)
        if event not in watchers:
            return published
        return AssetAny(published, _asset(watched_name(event, dag_id), watchers=list(watchers[event])))

    return AssetAll(*(condition(trigger.event) for trigger in triggers))


def _check_mapped_over(flow: str, step: str, source: BaseOperator) -> None:
    """Refuse a source of mapped tasks that pushes no XCom: they would be skipped, and their results would be missed."""
    if not source.do_xcom_push:
        raise InvalidOptionError(
            f"its task {source.task_id} has do_xcom_push={source.do_xcom_push!r}, by default_args, step_overrides or a "
            "translator, but the next steps are mapped over the XCom of this one.",
            flow=flow,
            step=step,
            hint="Leave do_xcom_push out, or give it to other steps only, by step_overrides.",
        )


def _check_release(flow: str, step: str) -> None:
    """Refuse what dead-locks before Airflow 3.3: its scheduler drops the task before the group is expanded (3.1.8)."""
    from airflow_provider_metaflow import _compat
    from metaflow_orchestration.exceptions import UnsupportedFeatureError

    if not _compat.AIRFLOW_V_3_3_PLUS:
        raise UnsupportedFeatureError(
            "joins branches inside a foreach of a flow with a switch, which this release of Airflow cannot run.",
            flow=flow,
            step=step,
            hint="Use Airflow 3.3 or newer.",
        )
