"""One try of one task instance of a step: inputs, Metaflow tasks, outcome. Loaded when a task runs, not at parse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_metaflow import settings
from airflow_provider_metaflow._compat import AirflowSkipException, TaskDeferred
from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.compute.platform import make_remote
from airflow_provider_metaflow.compute.remote import Progress, RemoteCompute, deferred_again
from airflow_provider_metaflow.plan.dag import MAP_LABEL, contexts_task_id
from metaflow_orchestration.containers.placement import Placement
from metaflow_orchestration.exceptions import FinalFailureError, MissingResultError, StepFailedError
from metaflow_orchestration.graph.identity import (
    RUN_KEY,
    Attempt,
    airflow_run_id,
    attempt_of,
    fallback_retries,
    is_old_task_id,
    old_task_id,
    task_id,
)
from metaflow_orchestration.graph.model import StepKind
from metaflow_orchestration.run.commands import StepCall, parameters_path
from metaflow_orchestration.run.contexts import IndexPath, split_contexts
from metaflow_orchestration.run.inputs import is_optional, resolve_inputs
from metaflow_orchestration.run.origin import Origin, leads_on
from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome, TaskOutcome, check_graph

from . import final_failures
from .clears import TryCounts
from .earlier_tries import EarlierTries, first_attempt
from .first_manifest import begun_with
from .run_context import Surroundings
from .run_identity import RunIdentity, facts_of
from .run_view import AirflowRunView
from .step_log import StepLog

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.operators.step import MetaflowStepOperator


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
        self._progress, self._event = progress, event
        self._done: dict[str, dict[str, Any]] = dict(progress.done) if progress else {}
        self._failed: dict[str, str] = dict(progress.failed) if progress else {}
        # A release that kept no names deferred the pack: all that failed in it wanted no other attempt, or none did.
        finals = (progress.finals or (progress.failed if progress.final else ())) if progress else ()
        self._finals: set[str] = set(finals)
        self._operator, self._context = operator, context
        self._ti: Any = context["ti"]
        self._manifest, self._begun_with = operator.manifest, ""
        self._graph = operator.manifest.graph
        self._step = self._graph.step(operator.step)
        # A step outside of each foreach has a map index only if the whole flow stands in a mapped task group.
        index = self._ti.map_index
        group_index = -1 if self._step.foreach_path or index is None else index
        self._first_run = airflow_run_id(self._ti.dag_id, self._ti.run_id, operator.id_prefix, group_index)
        # Known once the inputs are; see `_inputs`.
        self._run_id = progress.run_id if progress else ""
        facts = facts_of(context["dag_run"])
        self._placement = operator.placement or Placement()
        self._identity = RunIdentity(self._first_run, facts, self._local, needs_store=self._placement.is_local)
        self._counts = TryCounts(
            name=f"{self._first_run}.{self._step.name}.{self._ti.map_index}",
            started=facts.started,
            clears=facts.clears,
            tries=self._ti.try_number - 1,
            max_tries=self._ti.max_tries,
            retries=operator.retries or 0,
        )
        self._code = self._manifest.code
        self._compute: LocalCompute | None = None
        self._log = StepLog(operator.log)
        self._remote: RemoteCompute | None = None
        self._around = Surroundings(self._graph, context)
        self._parameters: dict[str, str] | None = None
        self._origin = self._origin_of_run()
        self._all_cloned = True
        self.pathspecs: list[str] = []
        """``Flow/run/step/task`` of the tasks that were run."""
        self.sources: list[str] = []
        """``run/step/task`` of those that they took artifacts from."""
        self._view = AirflowRunView(
            self._graph,
            self._step,
            self._ti,
            code=self._manifest.code.sha,
            first_run=self._first_run,
            airflow_id=operator.airflow_id,
            contexts_of=contexts_task_id,
            max_length=settings.max_map_length,
            probe=self._probe,
        )

    def close(self) -> None:
        """Kill a Metaflow task that still runs, and hang up."""
        if self._remote is not None:
            remote, self._remote = self._remote, None
            remote.kill()
        if self._compute is not None:
            compute, self._compute = self._compute, None
            compute.close()

    def _origin_of_run(self) -> Origin | None:
        dag_run: Any = self._context["dag_run"]
        is_whole_dag = self._operator.id_prefix == ""
        return Origin.of(self._graph, dag_run.conf or {}) if is_whole_dag else None

    def run(self) -> Any:
        """Run the tasks of the task instance, push their outcomes, and return the value to be mapped over."""
        self._count_tries()
        items = self._view.items()
        if self._step.foreach_path:
            self._context[MAP_LABEL] = self._view.own_context()["label"]  # type: ignore[literal-required]
        inputs = self._inputs(items)
        if not inputs:
            if not is_optional(self._graph, self._step):
                raise MissingResultError(
                    f"has no input: no task of {', '.join(self._step.parents)} has reported a result in this run.",
                    flow=self._graph.name,
                    step=self._step.name,
                    hint=f"Clear {', '.join(self._step.parents)}, so that they run.",
                )
            raise AirflowSkipException("No executed step leads here: the flow took another branch.")
        outcomes = self._run_all(inputs)
        instance = InstanceOutcome(
            run_id=self._run_id,
            code=self._code.sha,
            graph=self._graph.shape,
            manifest=self._begun_with,
            tasks=tuple(outcomes),
            map_index=self._ti.map_index,
        )
        self._ti.xcom_push(key=XCOM_KEY, value=instance.to_json())
        self._around.emit_events(self._operator.outlets, self._step, self._run_id, [one.task_id for one in outcomes])
        return self._return_value(outcomes)

    def _count_tries(self) -> None:
        """Find out which tries came before the last clear, and with it which Metaflow attempt this try is."""
        self._before_clear = self._counts.before_clear(self._local)
        self._number_attempt()

    def _number_attempt(self) -> None:
        """Find out which attempt this is by the tries of the step, and since which one results and containers count."""
        counts, retry, before = self._counts, self._step.retry, self._before_clear
        self._attempt = attempt_of(
            counts.tries,
            # One more try than is granted comes after a clear during the last.
            tries_left=max(counts.max_tries - counts.tries, 0),
            error_retries=fallback_retries(retry.user, retry.error, granted=counts.max_tries - before),
        )
        self._first_attempt = first_attempt(before, generation=self._attempt.generation)
        minimum = None if self._first_attempt == self._attempt.number else self._first_attempt
        self._earlier = EarlierTries(self._step, minimum, self._local, self._lingering)

    def _inputs(self, items: Sequence[IndexPath]) -> dict[IndexPath, tuple[str, ...]]:
        if self._step.name == self._graph.start:
            self._begin()
            # From here on, clients of Airflow know which run it is.
            self._ti.xcom_push(key=RUN_KEY, value=self._run_id)
            return {(): (parameters_path(self._run_id),)}
        resolved = resolve_inputs(self._graph, self._step, items, self._view)
        instance = self._view.any_instance() or self._identity.recorded()
        if instance is not None:
            self._run_id = instance.run_id
            self._go_on_with(instance)
        return {path: tuple(f"{self._run_id}/{i}" for i in paths) for path, paths in resolved.items()}

    def _go_on_with(self, instance: InstanceOutcome | None) -> None:
        """Take the flow that the run started with, whatever has been deployed since."""
        if instance is None:
            return
        # Of the record in the datastore; that of XComs was checked when they were read.
        check_graph(self._graph, self._step, self._code.sha, instance)
        self._manifest, self._begun_with = begun_with(self._manifest, instance, self._local), instance.manifest
        self._graph, self._code = self._manifest.graph, self._manifest.code
        self._step = self._graph.step(self._operator.step)
        # A deployment since may have changed its decorators: those that the run began with count.
        self._placement = self._operator.place(self._manifest)
        self._number_attempt()
        self.close()

    def _begin(self) -> None:
        """Find the run of the start step, or begin it."""
        if self._progress is None:
            begun = self._identity.begin(self._ti.try_number, self._run_parameters() or {}, self._manifest)
            self._run_id, self._begun_with = begun.run_id, begun.manifest
            return
        # A release that knew no other id deferred it without one.
        self._run_id = self._run_id or self._first_run
        self._go_on_with(self._identity.recorded())

    def _run_parameters(self) -> dict[str, str] | None:
        """Return the parameters of the run, for its start step only."""
        if self._parameters is None and self._step.name == self._graph.start:
            self._parameters = self._around.parameters(self._operator.parameters, fill=self._operator.fills_parameters)
        return self._parameters

    def _probe(self, step: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return results of this run from the datastore."""
        instance = self._view.any_instance() or self._identity.recorded()
        if instance is None:
            return [None] * len(ids)
        return self._local().probe(step, instance.run_id, ids)

    def _run_all(self, inputs: Mapping[IndexPath, tuple[str, ...]]) -> list[TaskOutcome]:
        """Run every task; one that fails does not keep the others of its pack from running."""
        is_pack = len(inputs) > 1
        if is_pack and self._placement.runs_arrays:
            return self._run_array(inputs)
        finished = self._finished_before(inputs) if self._progress is None else {}
        if is_pack and self._progress is None:
            self._take_final_failures()
        outcomes = []
        for path, paths in inputs.items():
            name = self._task_id(path)
            if path in finished:
                self._operator.log.info("Metaflow task %s has a result of an earlier try", name)
                outcomes.append(finished[path])
            if path in finished or name in self._failed:
                continue
            try:
                outcomes.append(self._run_one(path, paths))
            except StepFailedError as error:
                if not is_pack:
                    raise
                self._operator.log.error("%s", error)  # noqa: TRY400  (its own log has told more)
                self._failed[name] = error.message
                if isinstance(error, FinalFailureError):
                    self._finals.add(name)
        if self._failed:
            self._keep_final_failures()
            raise self._pack_failed(len(self._failed), len(inputs), next(iter(self._failed.values())))
        return outcomes

    def _pack_failed(self, failed: int, of: int, first: str) -> StepFailedError:
        # Others may succeed in another try; those that asked for none are left out of it.
        kind = FinalFailureError if self._failed and self._finals >= self._failed.keys() else StepFailedError
        return kind(
            f"{failed} of {of} packed tasks failed; the first: {first}", flow=self._graph.name, step=self._step.name
        )

    def _take_final_failures(self) -> None:
        """Leave out the tasks of the pack that asked for no further attempt in a try since the last clear."""
        if self._earlier.minimum is None:
            return
        found = final_failures.load(self._local(), self._counts, self._before_clear)
        self._failed.update(found)
        self._finals.update(found)

    def _keep_final_failures(self) -> None:
        if self._finals and not self._finals >= self._failed.keys():
            failed = {name: self._failed[name] for name in sorted(self._finals)}
            final_failures.save(self._local(), self._counts, self._before_clear, failed)

    def _run_array(self, inputs: Mapping[IndexPath, tuple[str, ...]]) -> list[TaskOutcome]:
        """Run all tasks of a pack that have no result yet as one array of the platform."""
        known = self._finished_before(inputs)
        calls = {path: self._call(path, paths) for path, paths in inputs.items() if path not in known}
        for path, call in list(calls.items()):
            cloned = self._clone(call, path, 0)
            if cloned is not None:
                known[path] = cloned
                del calls[path]
        if calls:
            self._all_cloned = False
            self.pathspecs.extend(self._pathspec(call) for call in calls.values())
            self.sources.extend(dict.fromkeys(one for call in calls.values() for one in call.inputs))
            documents = self._run_calls(list(calls.values()), None)
            ended = [(path, one) for path, one in zip(calls, documents, strict=True) if one is not None]
            known.update({path: TaskOutcome.from_document(path, one) for path, one in ended})
        failed = [self._pathspec(call) for path, call in calls.items() if path not in known]
        if failed:
            raise self._pack_failed(len(failed), len(inputs), failed[0])
        return [known[path] for path in inputs]

    def _finished_before(self, inputs: Mapping[IndexPath, tuple[str, ...]]) -> dict[IndexPath, TaskOutcome]:
        return self._earlier.finished({path: self._call(path, paths) for path, paths in inputs.items()})

    def _lingering(self, finished: Sequence[StepCall]) -> frozenset[str]:
        return frozenset() if self._placement.is_local else self._platform().lingering(finished)

    def _run_one(self, path: IndexPath, inputs: tuple[str, ...]) -> TaskOutcome:
        if not self._step.recursive:
            return self._run_task(path, inputs, iteration=0)
        iteration, outcome = self._deferred_iteration(path) or self._earlier.last_iteration(
            path, lambda number: self._call(path, inputs, number)
        )
        while outcome is None or self._step.name in outcome.next_steps:
            if outcome is not None:
                inputs = (f"{self._run_id}/{self._step.name}/{outcome.task_id}",)
            outcome = self._run_task(path, inputs, iteration=iteration)
            iteration += 1
        return outcome

    def _deferred_iteration(self, path: IndexPath) -> tuple[int, TaskOutcome | None] | None:
        """Return where a recursive switch was deferred, None if this task was not."""
        if self._progress is None or not self._progress.iteration:
            return None
        iteration = self._progress.iteration
        before = self._task_id(path, iteration - 1)
        document = self._done.get(before)
        return None if document is None else (iteration, TaskOutcome.from_document(path, document))

    def _run_task(self, path: IndexPath, inputs: tuple[str, ...], *, iteration: int) -> TaskOutcome:
        call = self._call(path, inputs, iteration)
        if call.task_id in self._done:
            return TaskOutcome.from_document(path, self._done[call.task_id])
        cloned = self._clone(call, path, iteration)
        if cloned is not None:
            return cloned
        self._all_cloned = False
        pathspec = self._pathspec(call)
        self.pathspecs.append(pathspec)
        self.sources.extend(inputs)
        self._operator.log.info("Metaflow task %s, attempt %d", pathspec, call.attempt)
        (document,) = self._run_calls([call], self._gang_size(path), iteration)
        outcome = TaskOutcome.from_document(path, document or {})
        if self._step.kind is StepKind.FOREACH and not outcome.num_splits:
            raise StepFailedError("its foreach has no size.", flow=self._graph.name, step=self._step.name)
        return outcome

    def _call(self, path: IndexPath, inputs: tuple[str, ...], iteration: int = 0) -> StepCall:
        attempt: Attempt = self._attempt
        return StepCall(
            step=self._step,
            run_id=self._run_id,
            task_id=self._task_id(path, iteration),
            attempt=attempt.number,
            max_user_retries=attempt.max_user_retries,
            inputs=inputs,
            split_index=0 if self._step.gang else (path[-1] if path else None),
            ubf_context="ubf_control" if self._step.gang else None,
            origin_run=self._origin.run_id if self._origin else None,
        )

    def _task_id(self, path: IndexPath, iteration: int = 0) -> str:
        generation = self._attempt.generation
        if self._progress is not None and is_old_task_id(self._progress.current):
            # An older release has deferred this try, whose containers are named after its task.
            return old_task_id(path, iteration=iteration, generation=generation)
        return task_id(self._step.name, path, iteration=iteration, generation=generation)

    def _pathspec(self, call: StepCall) -> str:
        return f"{self._graph.name}/{call.run_id}/{call.step.name}/{call.task_id}"

    def _run_calls(
        self, calls: Sequence[StepCall], gang: int | None, iteration: int = 0
    ) -> list[dict[str, Any] | None]:
        """Run tasks where the step's compute is; return their outcome documents."""
        parameters = self._run_parameters()
        if self._placement.is_local:
            return [self._run_here(call, parameters) for call in calls]
        remote = self._platform()
        current = calls[0].task_id
        try:
            if self._is_awaited(current) and self._event is not None:
                event, self._event = self._event, None
                documents = remote.resume(calls, event)
            else:
                documents = remote.run(calls, parameters, gang)
        except TaskDeferred as deferral:
            # What the triggerer now waits for must not end with this process.
            self._remote = None
            raise deferred_again(
                deferral,
                Progress(
                    current,
                    self._done,
                    iteration,
                    self._failed,
                    final=bool(self._finals),
                    run_id=self._run_id,
                    finals=sorted(self._finals),
                ),
            ) from None
        if len(calls) == 1 and documents[0] is not None:
            # Of a recursion the last outcome is enough.
            self._done = {} if self._step.recursive else self._done
            self._done[current] = documents[0]
        return documents

    def _run_here(self, call: StepCall, parameters: dict[str, str] | None) -> dict[str, Any]:
        has_failed = True
        try:
            document = self._local().run(call, parameters)
            has_failed = False
        finally:
            self._log.end(failed=has_failed)
        return document

    def _platform(self) -> RemoteCompute:
        if self._remote is None:
            self._remote = make_remote(
                self._operator,
                self._placement,
                self._context,
                self._manifest,
                self._code,
                self._around.task_variables(),
                self._local(),
                self._first_attempt,
            )
        return self._remote

    def _is_awaited(self, name: str) -> bool:
        """Tell whether a task is what was waited for; of an array any may be the first that has no result."""
        return self._progress is not None and (self._progress.current == name or self._placement.runs_arrays)

    def _gang_size(self, path: IndexPath) -> int | None:
        """Return how many nodes the step before has asked for."""
        if not self._step.gang or self._placement.is_local:
            return None
        parent = self._graph.step(self._step.parents[0])
        outcome = self._view.outcomes(parent).get(path[: len(parent.foreach_path)])
        return outcome.num_parallel if outcome else None

    def _clone(self, call: StepCall, path: IndexPath, iteration: int) -> TaskOutcome | None:
        """Take over the result of the origin's task, if this run is resumed and nothing before it was run anew."""
        if self._origin is None or not self._view.all_cloned or not self._all_cloned:
            return None
        local = self._local()
        found = self._origin.task(self._step, path, iteration, local, self._run_id)
        if found is None:
            return None
        name, document = found
        if not leads_on(self._step, document):
            source = f"{self._origin.run_id}/{self._step.name}/{name}"
            self._operator.log.info("%s is not taken over: it leads to %s", source, document.get("next"))
            return None
        parameters = self._run_parameters()
        nodes = [one for one in document.get("gang") or () if one != name]
        # The nodes of a gang are named after their control task.
        own_ids = {name: call.task_id, **{one: call.task_id + _node(one, name, of) for of, one in enumerate(nodes, 1)}}
        for origin, own in own_ids.items():
            source = f"{self._origin.run_id}/{call.step.name}/{origin}"
            self._operator.log.info("Metaflow task %s takes over the result of %s", own, source)
            copy = msgspec.structs.replace(call, task_id=own, clone_of=source, ubf_context=None)
            outcome = local.run(copy, parameters)
            if origin == name:
                first, parameters = outcome, None
        gang = tuple(own_ids[one] for one in document.get("gang") or ())
        return replace(TaskOutcome.from_document(path, first), gang=gang, cloned=True)

    def _return_value(self, outcomes: Sequence[TaskOutcome]) -> Any:
        if self._step.kind is StepKind.FOREACH and not self._step.foreach_path:
            (only,) = outcomes
            splits = [((), only.num_splits or 0, only.values, -1)]
            return split_contexts(splits, settings.max_map_length(), self._operator.pack_size)
        return f"{self._graph.name}/{self._run_id}" if self._step.name == self._graph.end else None

    def _local(self) -> LocalCompute:
        if self._compute is None:
            self._compute = LocalCompute(
                manifest=self._manifest,
                code=self._code,
                cache=settings.cache(),
                python=self._operator.python or settings.python(),
                warm=settings.warm_process() if self._operator.warm_process is None else self._operator.warm_process,
                idle_seconds=settings.warm_process_idle_seconds(),
                links=self._around.links(),
                variables=self._around.variables(),
                on_line=self._log.write,
                inherited=self._origin.inherited if self._origin else None,
                # A run that was cleared may have been given other parameters since its first tasks have run.
                resumed=self._origin is not None or self._identity.is_cleared,
            )
        return self._compute


def _node(node: str, control: str, number: int) -> str:
    """Return what tells a node of a gang from its control task; other deployers name both as they like."""
    return node.removeprefix(control) if node.startswith(control) else f"_node_{number}"
