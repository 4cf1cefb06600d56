"""The view that a task instance has of its run: XComs, states, and results in the datastore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metaflow_orchestration.exceptions import MissingResultError
from metaflow_orchestration.graph.identity import run_number
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind
from metaflow_orchestration.run.contexts import IndexPath, context_items, map_indexes_under
from metaflow_orchestration.run.outcome import (
    XCOM_KEY,
    InstanceOutcome,
    TaskOutcome,
    check_graph,
    check_outcome,
    check_run,
)

from .foreach_contexts import ForeachContexts
from .stored_results import StoredResults

_FEW = 32
"""Up to so many task instances are asked one by one; more are read in one request for all."""

Probe = Callable[[str, str, Sequence[str]], list[dict[str, Any] | None]]


class AirflowRunView:
    """Reads the rest of a run through the Task SDK.

    :param graph: the flow.
    :param step: step of this task instance.
    :param ti: this task instance.
    :param code: SHA-1 of the code package that is deployed now.
    :param first_run: Metaflow run id that the DAG run has unless it was made again.
    :param airflow_id: function from a step's or splits task's name to its Airflow task id.
    :param contexts_of: function from a foreach step to the task that lists its contexts.
    :param max_length: returns Airflow's limit of mapped task instances.
    :param recorded: returns what the start step has recorded of the run, None if there is no record.
    :param probe: reads outcome documents from the datastore: step, run id, task ids.
    """

    def __init__(  # noqa: PLR0913  (its ways to the rest of the run)
        self,
        graph: FlowGraph,
        step: Step,
        ti: Any,
        *,
        code: str,
        first_run: str,
        airflow_id: Callable[[str], str],
        contexts_of: Callable[[Step], str],
        max_length: Callable[[], int],
        recorded: Callable[[], InstanceOutcome | None],
        probe: Probe,
    ) -> None:
        self._graph, self._step, self._ti, self._code, self._first_run = graph, step, ti, code, first_run
        self._airflow_id, self._recorded, self._probe = airflow_id, recorded, probe
        self._stored = StoredResults(self._probe_run)
        self._contexts = ForeachContexts(
            graph=graph,
            step=step.name,
            ti=ti,
            airflow_id=airflow_id,
            contexts_of=contexts_of,
            max_length=max_length,
            stored=self._stored,
        )
        self._seen: dict[str, InstanceOutcome] = {}
        self._own: dict[str, Any] | None = None
        self._states: Mapping[str, Any] | None = None
        self.all_cloned = True
        """Whether all outcomes that were read are of tasks cloned from another run."""

    def own_context(self) -> dict[str, Any]:
        """Return the index context of this task instance."""
        if self._own is None:
            if self._step.foreach_path:
                (self._own,) = self._contexts.read(self._step.foreach_path[-1], self._ti.map_index)
            else:
                self._own = {"items": [[]], "parents": [], "label": ""}
        return self._own

    def items(self) -> list[IndexPath]:
        """Return the index paths of the Metaflow tasks of this task instance."""
        return context_items(self.own_context())

    def check_opener(self) -> None:
        """Check that the foreach which this step begins has not been cleared since its splits were listed.

        The task that lists those of a foreach inside another one stands between, so Airflow does not wait for it again.

        :raises MissingResultError: if it was, and has not succeeded again.
        """
        for parent in map(self._graph.step, self._step.parents):
            if parent.kind is not StepKind.FOREACH or not parent.foreach_path:
                continue
            if not all(self._is_success(parent, index) for index in self.own_context()["parents"]):
                raise MissingResultError(
                    f"was to run with the splits of {parent.name}, which was cleared and has not succeeded again.",
                    flow=self._graph.name,
                    step=self._step.name,
                    hint=f"Clear {parent.name} together with what comes after it, so that its splits are listed again.",
                )

    def any_instance(self) -> InstanceOutcome | None:
        """Return some outcome that was read, or the record of the start step: what all of a run have in common."""
        return next(iter(self._seen.values()), None) or self._recorded()

    def outcomes(self, parent: Step, *, of_successes: bool = False) -> dict[IndexPath, TaskOutcome]:
        """Return the outcomes of those tasks of a step that concern this task instance.

        :param parent: the step.
        :param of_successes: only of task instances that Airflow counts as successful now; for parents of this step.
        """
        indexes = self._map_indexes(parent)
        if indexes is None or len(indexes) > _FEW:
            pulled = self._pull_all(parent)
        else:
            pulled = self._ti.xcom_pull(task_ids=[self._airflow_id(parent.name)], key=XCOM_KEY, map_indexes=indexes)
        found = {}
        for data in pulled:
            if data is None:
                continue
            instance = InstanceOutcome.from_json(data)
            check_graph(self._graph, self._step, self._code, instance)
            if of_successes and not self._is_success(parent, instance.map_index):
                continue
            for task in instance.tasks:
                check_outcome(parent, task)
            check_run(parent, self._first_run, instance)
            self._check_same_run(parent, instance)
            self._seen[parent.name] = instance
            found.update({task.path: task for task in instance.tasks})
            self.all_cloned = self.all_cloned and all(task.cloned for task in instance.tasks)
        return found

    def _check_same_run(self, parent: Step, instance: InstanceOutcome) -> None:
        """Check that all results are of one Metaflow run, whose number only a start step that runs again raises."""
        for name, seen in self._seen.items():
            if seen.run_id == instance.run_id:
                continue
            runs = {name: seen.run_id, parent.name: instance.run_id}
            newest = max(runs.values(), key=lambda one: run_number(one, self._first_run) or 0)
            older = parent.name if newest == seen.run_id else name
            raise MissingResultError(
                f"has results of two Metaflow runs: that of {name} is of {seen.run_id}, that of {parent.name} of "
                f"{instance.run_id}; the start step has run again with other parameters.",
                flow=self._graph.name,
                step=self._step.name,
                hint=f"Clear {older} and what comes after it, so that it runs in {newest}.",
            )

    def succeeded(self, parents: Sequence[Step]) -> dict[str, bool]:
        """Tell for each step whether one of its task instances that concern this one succeeded.

        :param parents: the steps.
        """
        result = {}
        for parent in parents:
            indexes = self._map_indexes(parent)
            if indexes is None:
                prefix = f"{self._airflow_id(parent.name)}_"
                states = [state for name, state in self._parent_states().items() if name.startswith(prefix)]
                result[parent.name] = any(str(state) == "success" for state in states)
            else:
                result[parent.name] = any(self._is_success(parent, index) for index in indexes)
        return result

    def _is_success(self, parent: Step, map_index: int) -> bool:
        airflow_id = self._airflow_id(parent.name)
        name = airflow_id if map_index < 0 else f"{airflow_id}_{map_index}"
        return str(self._parent_states().get(name)) == "success"

    def _parent_states(self) -> Mapping[str, Any]:
        """Return the states of the task instances of all parents, by ``task_id`` or ``task_id_index``; one request.

        Those of the foreach that this step closes, too.
        """
        states = self._states
        if states is None:
            names = dict.fromkeys((*self._step.parents, *([self._step.closes] if self._step.closes else [])))
            ids = [self._airflow_id(name) for name in names]
            found = self._ti.get_task_states(dag_id=self._ti.dag_id, task_ids=ids, run_ids=[self._ti.run_id])
            states = self._states = found.get(self._ti.run_id, {})
        return states

    def stored(self, parent: Step, paths: Sequence[IndexPath]) -> dict[IndexPath, TaskOutcome]:
        """Return outcomes of finished tasks from the datastore.

        :param parent: the step.
        :param paths: index paths of its tasks.
        """
        return self._stored.outcomes(parent, paths)

    def _probe_run(self, step: str, task_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return results of this run, which none has as long as it is not known which Metaflow run it is."""
        instance = self.any_instance()
        return [None] * len(task_ids) if instance is None else self._probe(step, instance.run_id, task_ids)

    def _map_indexes(self, parent: Step) -> list[int] | None:
        """Return the map indexes of the task instances that concern this one; None for all."""
        if not parent.foreach_path:
            # The one of the same instance, if the whole flow stands in a mapped task group.
            return [-1 if self._step.foreach_path else self._ti.map_index]
        if parent.foreach_path == self._step.foreach_path:
            return [self._ti.map_index]
        if len(parent.foreach_path) < len(self._step.foreach_path):
            return list(self.own_context()["parents"])
        if not self._step.foreach_path:
            return None
        return map_indexes_under(self._contexts.read(parent.foreach_path[-1]), self.items())

    def _pull_all(self, parent: Step) -> list[Any]:
        pulled = self._ti.xcom_pull(task_ids=[self._airflow_id(parent.name)], key=XCOM_KEY)
        return list(pulled) if pulled is not None else []
