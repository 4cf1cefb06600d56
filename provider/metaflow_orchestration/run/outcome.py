"""What one Airflow task instance reports to others of the Metaflow tasks that it ran. Free of Airflow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import EditedXComError, RedeployedError
from metaflow_orchestration.graph.identity import old_task_id, run_number, task_id
from metaflow_orchestration.graph.model import FlowGraph, Step

from .contexts import MAX_SPLITS

XCOM_KEY = "metaflow"
"""XCom key of the outcome of a task instance."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_SPLITS)]


class _TaskFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an XCom says of a task: numbers and names, never where something is."""

    path: tuple[_Count, ...]
    task: str
    next: tuple[str, ...]
    splits: _Count | None = None
    values: tuple[str, ...] | None = None
    gang: tuple[str, ...] = ()
    cloned: bool = False
    parallel: _Count | None = None


@built
class _InstanceFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    run_id: str
    code: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
    graph: str = ""
    manifest: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    tasks: tuple[_TaskFacts, ...]
    index: Annotated[int, msgspec.Meta(ge=-1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """How one Metaflow task ended.

    :param path: index path.
    :param task_id: Metaflow task id.
    :param next_steps: steps that it named in ``self.next``.
    :param num_splits: size of the foreach that it opens.
    :param values: labels of the splits.
    :param gang: task ids of all nodes, for a gang's control task.
    :param cloned: whether its result is that of a task of another run.
    :param num_parallel: number of nodes that it asks for.
    """

    path: tuple[int, ...]
    task_id: str
    next_steps: tuple[str, ...] = ()
    num_splits: int | None = None
    values: tuple[str, ...] | None = None
    gang: tuple[str, ...] = ()
    cloned: bool = False
    num_parallel: int | None = None

    @classmethod
    def from_document(cls, path: tuple[int, ...], document: dict[str, Any]) -> TaskOutcome:
        """Read the outcome document that the step decorator wrote.

        :param path: index path of the task.
        :param document: the document.
        """
        values = document.get("values")
        return cls(
            path=path,
            task_id=document["task_id"],
            next_steps=tuple(document.get("next") or ()),
            num_splits=document.get("num_splits"),
            values=tuple(values) if values else None,
            gang=tuple(document.get("gang") or ()),
            num_parallel=document.get("num_parallel"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON types; labels of splits are not needed after the contexts were made."""
        data: dict[str, Any] = {"path": list(self.path), "task": self.task_id, "next": list(self.next_steps)}
        if self.num_splits is not None:
            data["splits"] = self.num_splits
        if self.values is not None and self.path:
            data["values"] = list(self.values)
        if self.gang:
            data["gang"] = list(self.gang)
        if self.cloned:
            data["cloned"] = True
        if self.num_parallel is not None:
            data["parallel"] = self.num_parallel
        return data

    @classmethod
    def of_facts(cls, facts: _TaskFacts) -> TaskOutcome:
        """Return the outcome that an XCom holds.

        :param facts: what :meth:`to_json` wrote.
        """
        return cls(
            path=facts.path,
            task_id=facts.task,
            next_steps=facts.next,
            num_splits=facts.splits,
            values=facts.values,
            gang=facts.gang,
            cloned=facts.cloned,
            num_parallel=facts.parallel,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOutcome:
    """How all Metaflow tasks of one Airflow task instance ended.

    :param run_id: Metaflow run id.
    :param code: SHA-1 of the code package that the run uses; handed on, so that a run keeps the code it started with.
    :param tasks: the tasks.
    :param graph: digest of the graph that it ran in (:attr:`~metaflow_orchestration.graph.model.FlowGraph.shape`);
        empty in an XCom of a release before 0.2.
    :param manifest: digest of the manifest that the run began with; empty in an XCom of a release before 0.2.
    :param map_index: Airflow's map index of the task instance; -1 outside of a foreach.
    """

    run_id: str
    code: str
    tasks: tuple[TaskOutcome, ...]
    graph: str = ""
    manifest: str = ""
    map_index: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for an XCom."""
        tasks = [task.to_json() for task in self.tasks]
        return {
            "run_id": self.run_id,
            "code": self.code,
            "graph": self.graph,
            "manifest": self.manifest,
            "tasks": tasks,
            "index": self.map_index,
        }

    @classmethod
    def from_json(cls, data: Any) -> InstanceOutcome:
        """Read what :meth:`to_json` wrote, and nothing else: users may edit an XCom.

        :param data: content of the XCom.
        :raises EditedXComError: if it is of another form.
        """
        try:
            facts = msgspec.convert(data, _InstanceFacts)
        except msgspec.ValidationError as error:
            raise EditedXComError(
                f"the XCom {XCOM_KEY!r} of a task before this one cannot be read ({error}).",
                hint="It was edited, or is of another release: clear that task, so that it runs again.",
            ) from None
        tasks = tuple(TaskOutcome.of_facts(task) for task in facts.tasks)
        return cls(
            run_id=facts.run_id,
            code=facts.code,
            graph=facts.graph,
            manifest=facts.manifest,
            tasks=tasks,
            map_index=facts.index,
        )


def check_graph(graph: FlowGraph, step: Step, code: str, instance: InstanceOutcome) -> None:
    """Check that a task instance before this one ran in the graph that is deployed now.

    In another graph a step may have no input because it was not there when the run began: it must neither be skipped
    nor run with the inputs of another.

    :param graph: the flow as it is deployed now.
    :param step: the step that is to run.
    :param code: SHA-1 of its code package.
    :param instance: what the task instance reported.
    :raises RedeployedError: naming both versions and the ways out.
    """
    if instance.graph in ("", graph.shape):
        return
    raise RedeployedError(
        f"the run began with another graph of the flow (code package {instance.code[:12]}) than is deployed now "
        f"({code[:12]}).",
        flow=graph.name,
        step=step.name,
        hint="Clear the whole run, on the latest version of the DAG, so that it runs the flow of today. In a versioned "
        "DAG bundle a run stays on the version that it began with.",
    )


def check_run(step: Step, first: str, instance: InstanceOutcome) -> None:
    """Check that a task instance names a run of its own DAG run id, so that an edited XCom leads to no other.

    :param step: its step.
    :param first: :func:`~metaflow_orchestration.graph.identity.airflow_run_id` of the DAG run.
    :param instance: what the task instance reported.
    :raises EditedXComError: if it names another run.
    """
    if run_number(instance.run_id, first) is None:
        raise EditedXComError(
            f"the XCom {XCOM_KEY!r} names the run {instance.run_id!r:.80}, which is no run of this DAG run.",
            step=step.name,
            hint=f"It was edited: clear the tasks of {step.name}, so that they run again.",
        )


def check_outcome(step: Step, outcome: TaskOutcome) -> None:
    """Check that an outcome can be of a task of that step: its id follows from its path, its next steps are the step's.

    So an edited XCom can at most claim that other tasks of the same run have run; it never leads to another run.

    :param step: the step.
    :param outcome: what its task has reported.
    :raises EditedXComError: if it cannot.
    """
    own = "|".join(re.escape(name) for name in (task_id(step.name, outcome.path), old_task_id(outcome.path)))
    known = {*step.next_steps, *([step.name] if step.recursive else [])}
    problem = None
    if len(outcome.path) != len(step.foreach_path):
        problem = f"the index path {list(outcome.path)}"
    elif re.fullmatch(rf"({own})(-r\d+)?(-g\d+)?", outcome.task_id) is None:
        problem = f"the task id {outcome.task_id!r:.60}"
    elif not set(outcome.next_steps) <= known:
        problem = f"the next step {sorted(set(outcome.next_steps) - known)[0]!r:.60}"
    else:
        node = re.compile(rf"{re.escape(outcome.task_id)}([-_](node|worker)[-_]\d+)?")
        other = next((one for one in outcome.gang if node.fullmatch(one) is None), None)
        problem = f"the node {other!r:.60}" if other is not None else None
    if problem is not None:
        raise EditedXComError(
            f"the XCom {XCOM_KEY!r} says {problem}, which no task of the step has.",
            step=step.name,
            hint=f"It was edited: clear the tasks of {step.name}, so that they run again.",
        )
