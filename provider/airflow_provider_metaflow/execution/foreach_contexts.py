"""The index contexts of a foreach: which splits each mapped task instance stands for, as Airflow maps over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from metaflow_orchestration.exceptions import MissingResultError
from metaflow_orchestration.graph.model import FlowGraph, Step
from metaflow_orchestration.run.contexts import IndexPath, check_contexts, context_items, split_contexts

from .stored_results import StoredResults


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeachContexts:
    """Reads the contexts that the foreach steps of a run have left.

    :param graph: the flow.
    :param step: name of the step that asks, for messages.
    :param ti: its task instance.
    :param airflow_id: function from a step's or splits task's name to its Airflow task id.
    :param contexts_of: function from a foreach step to the task that lists its contexts.
    :param max_length: returns Airflow's limit of mapped task instances.
    :param stored: results in the datastore.
    """

    graph: FlowGraph
    step: str
    ti: Any
    airflow_id: Callable[[str], str]
    contexts_of: Callable[[Step], str]
    max_length: Callable[[], int]
    stored: StoredResults

    def read(self, foreach: str, map_index: int | None = None) -> list[dict[str, Any]]:
        """Return the contexts of a foreach, in the order of the map indexes.

        The XComs of a run may be deleted (``airflow db clean``), and tasks of it cleared later; then they are made
        again from the results in the datastore.

        :param foreach: the step that opens it.
        :param map_index: only that of this task instance.
        :raises MissingResultError: if the XCom is gone, and the datastore has not all results.
        :raises EditedXComError: if the XCom was edited.
        """
        opener = self.graph.step(foreach)
        source = self.airflow_id(self.contexts_of(opener))
        pulled = self.ti.xcom_pull(task_ids=source, map_indexes=None)
        if pulled is None:
            pulled = self._rebuilt(opener)
            if not pulled and map_index is None:
                # Every split of the outer foreach took a branch without this one, whose tasks are all skipped.
                return []
            self._check_count(opener, source, pulled)
        return check_contexts(pulled, len(opener.foreach_path) + 1, map_index)

    def _rebuilt(self, opener: Step) -> list[dict[str, Any]]:
        """Return the contexts of a foreach from what its tasks have left in the datastore."""
        airflow_id = self.airflow_id(opener.name)
        states = self.ti.get_task_states(dag_id=self.ti.dag_id, task_ids=[airflow_id], run_ids=[self.ti.run_id])
        succeeded = {name for name, state in states.get(self.ti.run_id, {}).items() if str(state) == "success"}
        opened: list[tuple[int, list[IndexPath]]] = []
        if not opener.foreach_path:
            opened = [(-1, [()])] if airflow_id in succeeded else []
        elif any(name.startswith(f"{airflow_id}_") for name in succeeded):
            around = enumerate(self.read(opener.foreach_path[-1]))
            opened = [(index, context_items(one)) for index, one in around if f"{airflow_id}_{index}" in succeeded]
        found = self.stored.outcomes(opener, [path for _, paths in opened for path in paths])
        splits = [
            (path, found[path].num_splits or 0, found[path].values, index)
            for index, paths in opened
            for path in paths
            if path in found
        ]
        pack_size = self.ti.task.dag.task_dict[self.airflow_id(self.contexts_of(opener))].pack_size if splits else None
        return split_contexts(splits, self.max_length(), pack_size)

    def _check_count(self, opener: Step, source: str, contexts: Sequence[Any]) -> None:
        """Check that there is a rebuilt context for each mapped task instance: the map indexes must mean the same."""
        inside = next(one for one in self.graph.steps if one.foreach_path[-1:] == (opener.name,))
        count = self.ti.get_ti_count(
            dag_id=self.ti.dag_id, task_ids=[self.airflow_id(inside.name)], run_ids=[self.ti.run_id]
        )
        if count != len(contexts):
            raise MissingResultError(
                f"the XCom of {source} with the splits of the foreach is gone, and the datastore has the results of "
                f"{len(contexts)} of its {count} task instances.",
                flow=self.graph.name,
                step=self.step,
                hint=f"Clear {opener.name} and what comes after it, so that it runs again.",
            )
