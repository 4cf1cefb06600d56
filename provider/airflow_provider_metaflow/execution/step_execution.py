"""One try of one task instance of a step: inputs, Metaflow tasks, outcome. Loaded when a task runs, not at parse.

Each stage takes what the one before it has found: the facts of the try, the Metaflow run with the inputs of its tasks,
the tasks (package ``tasks``), and the report of their outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow import settings
from airflow_provider_metaflow._compat import AirflowSkipException, AirflowTaskTimeout
from airflow_provider_metaflow.compute.remote import Progress
from airflow_provider_metaflow.plan.dag import MAP_LABEL, contexts_task_id
from metaflow_orchestration.containers.placement import Placement
from metaflow_orchestration.exceptions import (
    EditedXComError,
    FinalFailureError,
    MissingResultError,
    ParameterValueError,
    RedeployedError,
    StepFailedError,
    UnsupportedFeatureError,
)
from metaflow_orchestration.graph.identity import RUN_KEY, airflow_run_id
from metaflow_orchestration.graph.model import StepKind
from metaflow_orchestration.run.commands import parameters_path
from metaflow_orchestration.run.contexts import IndexPath, split_contexts
from metaflow_orchestration.run.inputs import is_optional, resolve_inputs
from metaflow_orchestration.run.origin import Origin
from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome, TaskOutcome

from .clears import TryCounts
from .ended_tries import EndedTries, KnownTries
from .run_context import DagRunContext
from .run_identity import RunIdentity, facts_of
from .run_view import AirflowRunView
from .step_compute import StepCompute
from .step_definition import StepDefinition
from .step_run import StepRun, begun_run
from .tasks.calls import ExecutedTasks, TaskCalls
from .tasks.clones import OriginClones
from .tasks.earlier_tries import EarlierTries, first_attempt
from .tasks.final_failures import FinalFailures
from .tasks.pack import Pack
from .tasks.progress import TryProgress
from .tasks.runner import TaskRunner
from .tasks.step_tasks import Inputs, StepTasks

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.operators.step import MetaflowStepOperator

FINAL_ERRORS = (
    EditedXComError,
    FinalFailureError,
    MissingResultError,
    ParameterValueError,
    RedeployedError,
    UnsupportedFeatureError,
)
"""Errors after which another try would meet the same input, or is not wanted."""


class StepExecution:
    """One try of one task instance.

    :param operator: the operator.
    :param context: Airflow's task context.
    :param progress: after a deferral, what had been done before.
    :param event: after a deferral, what the trigger has seen.
    """

    def __init__(
        self,
        operator: MetaflowStepOperator,
        context: Context,
        progress: Progress | None = None,
        event: dict[str, Any] | None = None,
    ) -> None:
        self._operator, self._context = operator, context
        self._ti: Any = context["ti"]
        self._progress = TryProgress(progress, event)
        deployed = self._deployed = StepDefinition(operator.manifest, operator.step, operator.placement or Placement())
        self._first_run = _first_run(operator, deployed, self._ti)
        self._dag_run = DagRunContext(deployed.graph, context)
        facts = facts_of(context["dag_run"])
        self._counts = TryCounts(
            name=f"{self._first_run}.{deployed.name}.{self._ti.map_index}",
            started=facts.started,
            clears=facts.clears,
            tries=self._ti.try_number - 1,
            max_tries=self._ti.max_tries,
            retries=operator.retries or 0,
        )
        self._origin = _origin(operator, deployed, context)
        self._compute = StepCompute(
            operator,
            context,
            self._dag_run,
            deployed,
            inherited=self._origin.inherited if self._origin else None,
            # A run that was cleared may have been given other parameters since its first tasks have run.
            resumed=self._origin is not None or facts.clears > 0,
        )
        needs_store = deployed.placement.is_local
        self._identity = RunIdentity(self._first_run, facts, self._compute.local, needs_store=needs_store)
        self._view = AirflowRunView(
            deployed.graph,
            deployed.step,
            self._ti,
            code=deployed.code.sha,
            first_run=self._first_run,
            airflow_id=operator.airflow_id,
            contexts_of=contexts_task_id,
            max_length=settings.max_map_length,
            recorded=self._identity.recorded,
            probe=lambda step, run_id, task_ids: self._compute.local().probe(step, run_id, task_ids),
        )
        self.executed = ExecutedTasks()
        """The tasks that were run so far."""

    def close(self) -> None:
        """Kill a Metaflow task that still runs, and hang up."""
        self._compute.close()

    def run(self) -> Any:
        """Run the tasks of the task instance, push their outcomes, and return the value to be mapped over."""
        deployed = self._deployed
        # Before anything else is read: a clear is recorded by the first try that sees it.
        ended = EndedTries(self._counts, self._compute.local)
        known = ended.known()
        items = self._view.items()
        if deployed.step.foreach_path:
            self._context[MAP_LABEL] = self._view.own_context()["label"]  # type: ignore[literal-required]
        parameters = None
        if deployed.name == deployed.graph.start:
            parameters = self._dag_run.parameters(self._operator.parameters, fill=self._operator.fills_parameters)
            run = self._start_run(parameters)
            inputs: Inputs = {(): (parameters_path(run.run_id),)}
        else:
            run, inputs = self._find_inputs(items)
        if not inputs:
            raise _without_input(run.definition)
        pack = self._pack(run, known, parameters)
        try:
            outcomes = pack.run(inputs)
        except (StepFailedError, AirflowTaskTimeout):
            ended.record(self._ti, known.before_clear)
            raise
        self._report(run, outcomes)
        return self._return_value(run, outcomes)

    def _start_run(self, parameters: Mapping[str, str]) -> StepRun:
        """Return the run of the start step, which begins it unless an earlier try has."""
        if self._progress.is_resumed:
            # A release that knew no other id deferred it without one.
            run = self._with_begun_flow(self._progress.run_id or self._first_run, self._identity.recorded())
        else:
            begun = self._identity.begin(self._ti.try_number, parameters, self._deployed.manifest)
            run = StepRun(begun.run_id, self._deployed, begun.manifest)
        # From here on, clients of Airflow know which run it is.
        self._ti.xcom_push(key=RUN_KEY, value=run.run_id)
        return run

    def _find_inputs(self, items: Sequence[IndexPath]) -> tuple[StepRun, Inputs]:
        """Return the run, and the tasks of this task instance with what they take artifacts from."""
        if self._counts.may_follow_a_clear:
            self._view.check_opener()
        resolved = resolve_inputs(self._deployed.graph, self._deployed.step, items, self._view)
        reported = self._view.any_instance()
        run = self._with_begun_flow(reported.run_id if reported else self._progress.run_id, reported)
        return run, {path: tuple(f"{run.run_id}/{one}" for one in paths) for path, paths in resolved.items()}

    def _with_begun_flow(self, run_id: str, reported: InstanceOutcome | None) -> StepRun:
        run = begun_run(run_id, reported, self._deployed, self._compute.local, self._operator.place)
        if reported is not None:
            self._compute.use(run.definition)
        return run

    def _pack(self, run: StepRun, known: KnownTries, parameters: Mapping[str, str] | None) -> Pack:
        """Return the tasks of this task instance."""
        step, origin, local, log = run.definition.step, self._origin, self._compute.local, self._operator.log
        attempt = self._counts.attempt(step.retry, known.before_clear, may_fall_back=known.is_last_known)
        first = first_attempt(known.before_clear, generation=attempt.generation)
        runner = TaskRunner(self._compute, self._progress, parameters, first)
        clones = None
        if origin is not None and self._view.all_cloned:
            clones = OriginClones(origin=origin, step=step, parameters=parameters, local=local, log=log)
        tasks = StepTasks(
            definition=run.definition,
            view=self._view,
            calls=TaskCalls(
                step=step,
                run_id=run.run_id,
                attempt=attempt,
                origin_run=origin.run_id if origin else None,
                has_old_ids=self._progress.has_old_ids,
            ),
            runner=runner,
            clones=clones,
            earlier=EarlierTries(step, None if first == attempt.number else first, local, runner.lingering),
            progress=self._progress,
            executed=self.executed,
            log=log,
        )
        return Pack(tasks, FinalFailures(self._counts, known.before_clear, local))

    def _report(self, run: StepRun, outcomes: Sequence[TaskOutcome]) -> None:
        """Leave what the tasks after this one must know, and fill in the events that Airflow publishes."""
        definition = run.definition
        instance = InstanceOutcome(
            run_id=run.run_id,
            code=definition.code.sha,
            graph=definition.graph.shape,
            manifest=run.manifest,
            tasks=tuple(outcomes),
            map_index=self._ti.map_index,
        )
        self._ti.xcom_push(key=XCOM_KEY, value=instance.to_json())
        task_ids = [one.task_id for one in outcomes]
        self._dag_run.emit_events(self._operator.outlets, definition.step, run.run_id, task_ids)

    def _return_value(self, run: StepRun, outcomes: Sequence[TaskOutcome]) -> Any:
        graph, step = run.definition.graph, run.definition.step
        if step.kind is StepKind.FOREACH and not step.foreach_path:
            (only,) = outcomes
            splits = [((), only.num_splits or 0, only.values, -1)]
            return split_contexts(splits, settings.max_map_length(), self._operator.pack_size)
        return f"{graph.name}/{run.run_id}" if step.name == graph.end else None


def _first_run(operator: MetaflowStepOperator, deployed: StepDefinition, ti: Any) -> str:
    """Return the Metaflow run id that the DAG run has unless it was made again."""
    # A step outside of each foreach has a map index only if the whole flow stands in a mapped task group.
    group_index = -1 if deployed.step.foreach_path or ti.map_index is None else ti.map_index
    return airflow_run_id(ti.dag_id, ti.run_id, operator.id_prefix, group_index)


def _origin(operator: MetaflowStepOperator, deployed: StepDefinition, context: Context) -> Origin | None:
    """Return the run that this one resumes; a flow that is a part of a DAG resumes none."""
    dag_run: Any = context["dag_run"]
    is_whole_dag = operator.id_prefix == ""
    return Origin.of(deployed.graph, dag_run.conf or {}) if is_whole_dag else None


def _without_input(definition: StepDefinition) -> Exception:
    """Return the error of a task instance without input; it is skipped if the flow took another branch."""
    graph, step = definition.graph, definition.step
    if is_optional(graph, step):
        return AirflowSkipException("No executed step leads here: the flow took another branch.")
    return MissingResultError(
        f"has no input: no task of {', '.join(step.parents)} has reported a result in this run.",
        flow=graph.name,
        step=step.name,
        hint=f"Clear {', '.join(step.parents)}, so that they run.",
    )
