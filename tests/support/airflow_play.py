"""Plays a run of an Airflow DAG, as its scheduler and our operators would run it, without a process."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_metaflow.execution.run_view import AirflowRunView
from airflow_provider_metaflow.plan.dag import contexts_task_id
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import task_id
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind
from metaflow_orchestration.run.contexts import IndexPath, split_contexts
from metaflow_orchestration.run.inputs import is_optional, resolve_inputs
from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome, TaskOutcome

from .plays import Play, Task

SUCCESS, SKIPPED = "success", "skipped"
MAX_MAP_LENGTH = 1024
_CODE = "c" * 40


@dataclass
class AirflowPlay:
    """One DAG run.

    :param dag: the DAG as it was read from its serialized form.
    :param graph: the flow.
    :param play: what its tasks say of themselves.
    :param states: state of each task instance, by task id and map index.
    """

    dag: Any
    graph: FlowGraph
    play: Play
    lot: random.Random
    states: dict[str, dict[int, str]] = field(default_factory=dict)
    xcoms: dict[tuple[str, int], Any] = field(default_factory=dict)
    returned: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    done: list[Task] = field(default_factory=list)

    def run(self) -> list[Task]:
        waiting = {task.task_id: task for task in self.dag.tasks}
        while waiting:
            ready = [one for one in waiting.values() if one.upstream_task_ids <= self.states.keys()]
            assert ready, f"{sorted(waiting)} wait without end"
            task = self.lot.choice(ready)
            del waiting[task.task_id]
            self.states[task.task_id] = {}
            for index in self._map_indexes(task):
                self.states[task.task_id][index] = self._instance(task, index)
        return self.done

    def _source(self, task: Any) -> str | None:
        """The task over whose list the segment of a task is mapped."""
        group = task.task_group
        if not hasattr(group, "_expand_input"):
            return None
        (argument,) = group._expand_input.value.values()
        found: str = getattr(argument, "operator", argument).task_id
        return found

    def _map_indexes(self, task: Any) -> list[int]:
        source = self._source(task)
        if source is None:
            return [-1]
        if source not in self.returned:
            # It is skipped, and so is what was to be mapped over its list.
            return [-1]
        return list(range(len(self.returned[source])))

    def _instance(self, task: Any, index: int) -> str:
        if not self._may_run(task, index):
            return SKIPPED
        if task.task_id not in {step.name for step in self.graph.steps}:
            return self._splits(task)
        assert index >= 0 or not self.graph.step(task.task_id).foreach_path, f"{task.task_id} runs unmapped"
        return self._step(self.graph.step(task.task_id), index)

    def _may_run(self, task: Any, index: int) -> bool:
        """Evaluate the trigger rule (`airflow.ti_deps.deps.trigger_rule_dep`)."""
        found = []
        for name in task.upstream_task_ids:
            other = self.dag.get_task(name)
            states = self.states[name]
            together = self._source(task) is not None and other.task_group is task.task_group
            found += [states[index]] if together else list(states.values())
        if not found:
            return True
        if str(task.trigger_rule) == "all_success":
            return all(state == SUCCESS for state in found)
        assert str(task.trigger_rule) == "none_failed_min_one_success"
        return any(state == SUCCESS for state in found)

    def _splits(self, task: Any) -> str:
        """Do what `MetaflowSplitsOperator` does."""
        (foreach,) = task.upstream_task_ids
        splits = []
        for index, state in sorted(self.states[foreach].items()):
            if state == SUCCESS:
                instance = InstanceOutcome.from_json(self.xcoms[foreach, index])
                splits += [(one.path, one.num_splits or 0, None, index) for one in instance.tasks]
        if not splits:
            return SKIPPED
        self.returned[task.task_id] = split_contexts(splits, MAX_MAP_LENGTH)
        return SUCCESS

    def _step(self, step: Step, index: int) -> str:
        view = AirflowRunView(
            self.graph,
            step,
            _TaskInstance(self, index),
            code=_CODE,
            first_run="r",
            airflow_id=lambda name: name,
            contexts_of=contexts_task_id,
            max_length=lambda: MAX_MAP_LENGTH,
            recorded=lambda: None,
            probe=lambda *_: [None] * 1000,
        )
        items = view.items()
        inputs = {(): ()} if step.name == self.graph.start else resolve_inputs(self.graph, step, items, view)
        if not inputs:
            # A step that no switch can leave out must never be skipped.
            assert is_optional(self.graph, step), f"{step.name} has no input"
            return SKIPPED
        outcomes = [self._task(step, path, paths) for path, paths in inputs.items()]
        instance = InstanceOutcome(
            run_id="r", code=_CODE, graph=self.graph.shape, tasks=tuple(outcomes), map_index=index
        )
        self.xcoms[step.name, index] = instance.to_json()
        if step.kind is StepKind.FOREACH and not step.foreach_path:
            (one,) = outcomes
            self.returned[step.name] = split_contexts([(one.path, one.num_splits or 0, None, index)], MAX_MAP_LENGTH)
        return SUCCESS

    def _task(self, step: Step, path: IndexPath, inputs: Sequence[str]) -> TaskOutcome:
        if step.name != self.graph.start:
            expected = self.play.inputs[step.name, path, 0]
            assert list(inputs) == expected, f"{step.name} {path} gets {inputs}, not {expected}"
        iteration = 0
        while True:
            self.done.append((step.name, path, iteration))
            outcome = self.play.outcomes[step.name, task_id(step.name, path, iteration)]
            if outcome["next"] != [step.name]:
                return TaskOutcome.from_document(path, outcome)
            iteration += 1


@dataclass
class _TaskInstance:
    """What a task instance sees by the Task SDK."""

    play: AirflowPlay
    map_index: int
    dag_id: str = "dag"
    run_id: str = "run"

    def xcom_pull(self, *, task_ids: Any, key: str = "return_value", map_indexes: Any = ...) -> Any:
        if key != XCOM_KEY:
            assert isinstance(task_ids, str)
            return self.play.returned.get(task_ids)
        (name,) = task_ids
        if map_indexes is ...:
            return [value for (task, _), value in sorted(self.play.xcoms.items()) if task == name]
        return [self.play.xcoms.get((name, index)) for index in map_indexes]

    def get_task_states(self, *, dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str]) -> Mapping[str, Any]:
        found = {}
        for name in task_ids:
            for index, state in self.play.states.get(name, {}).items():
                found[name if index < 0 else f"{name}_{index}"] = state
        return {run_ids[0]: found}


def play_airflow(dag: Any, play: Play, seed: int) -> list[Task]:
    """Play a run of a DAG; return the Metaflow tasks in the order in which they ended."""
    return AirflowPlay(dag, play.graph, play, random.Random(seed)).run()
