"""What one Airflow task instance tells others about the Metaflow tasks that it ran. Free of Airflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

XCOM_KEY = "metaflow"
"""XCom key of the outcome of a task instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """How one Metaflow task ended.

    :param path: index path.
    :param task_id: Metaflow task id.
    :param next_steps: steps that it named in ``self.next``.
    :param num_splits: size of the foreach that it opens.
    :param values: labels of the splits.
    :param gang: task ids of all nodes, for a gang's control task.
    :param cloned: whether its result was taken over from another run.
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
    def from_json(cls, data: dict[str, Any]) -> TaskOutcome:
        """Read what :meth:`to_json` wrote.

        :param data: JSON types.
        """
        return cls(
            path=tuple(data["path"]),
            task_id=data["task"],
            next_steps=tuple(data["next"]),
            num_splits=data.get("splits"),
            values=tuple(data["values"]) if "values" in data else None,
            gang=tuple(data.get("gang", ())),
            cloned=data.get("cloned", False),
            num_parallel=data.get("parallel"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOutcome:
    """How all Metaflow tasks of one Airflow task instance ended.

    :param run_id: Metaflow run id.
    :param code: the code package that the run uses; handed on, so that a run keeps the code it started with.
    :param tasks: the tasks.
    :param map_index: Airflow's map index of the task instance; -1 outside of a foreach.
    """

    run_id: str
    code: dict[str, str]
    tasks: tuple[TaskOutcome, ...]
    map_index: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for an XCom."""
        tasks = [task.to_json() for task in self.tasks]
        return {"run_id": self.run_id, "code": self.code, "tasks": tasks, "index": self.map_index}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> InstanceOutcome:
        """Read what :meth:`to_json` wrote.

        :param data: content of the XCom.
        """
        return cls(
            run_id=data["run_id"],
            code=data["code"],
            tasks=tuple(TaskOutcome.from_json(task) for task in data["tasks"]),
            map_index=data["index"],
        )
