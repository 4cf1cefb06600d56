"""What Airflow's database knows of a DAG run and the flows in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import func, select

from airflow_provider_metaflow.deploy.record import ShownRecord
from airflow_provider_metaflow.formats import ParamValues
from airflow_provider_metaflow.plan.events import event_of
from metaflow_orchestration.exceptions import EditedXComError
from metaflow_orchestration.graph.identity import RUN_KEY, airflow_run_id, old_task_id, reported_run_id, task_id
from metaflow_orchestration.run.contexts import check_contexts, context_items
from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome

MAX_INSTANCES = 100
"""How many runs of a flow in a mapped task group are listed."""

MAX_TASKS = 200
"""How many Metaflow tasks of one task instance are shown."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When the task instances of a step ran, all in one.

    :param step: the step.
    :param states: how many task instances are in which state.
    :param start: when the first began.
    :param end: when the last ended, None while one runs.
    :param tries: the highest number of tries.
    """

    step: str
    states: Mapping[str, int] = field(default_factory=dict)
    start: datetime | None = None
    end: datetime | None = None
    tries: int = 0


class AirflowRun:
    """One DAG run.

    :param session: session of Airflow's database.
    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    """

    def __init__(self, session: Any, dag_id: str, run_id: str) -> None:
        self._session, self.dag_id, self.run_id = session, dag_id, run_id

    def state(self) -> str:
        """Return its state: Metaflow knows of no end of a run whose end step has not succeeded."""
        query = select(DagRun.state).where(DagRun.dag_id == self.dag_id, DagRun.run_id == self.run_id)
        found = self._session.scalars(query).first()
        return str(getattr(found, "value", found))

    def metaflow_run(self, flow: ShownRecord, map_index: int = -1) -> str | None:
        """Return the Metaflow run of a flow, None as long as its start step has not begun.

        A run that is made again under its old id must not show the one before it.

        :param flow: the flow.
        :param map_index: which instance of the task group that the flow stands in.
        """
        start = flow.prefix + flow.steps[0]
        first = airflow_run_id(self.dag_id, self.run_id, flow.prefix, map_index)
        found = self._xcom(start, RUN_KEY, map_index)
        if found is not None:
            return reported_run_id(found, first)
        tried = select(TaskInstance.state).where(*self._of(start, map_index), TaskInstance.try_number > 0)
        # Its XComs were deleted, or a release before 0.2 has run it.
        return first if self._session.scalars(tried).first() is not None else None

    def instances(self, flow: ShownRecord) -> list[int]:
        """Return the map indexes of the runs of a flow in a mapped task group that have begun.

        :param flow: the flow.
        """
        query = (
            select(TaskInstance.map_index)
            .where(*self._of(flow.prefix + flow.steps[0]), TaskInstance.try_number > 0, TaskInstance.map_index >= 0)
            .order_by(TaskInstance.map_index)
            .limit(MAX_INSTANCES)
        )
        return [int(row[0]) for row in self._session.execute(query).all()]

    def times(self, flow: ShownRecord, steps: Sequence[str], map_index: int | None = None) -> list[StepTimes]:
        """Return when the steps of a flow ran.

        :param flow: the flow.
        :param steps: the steps.
        :param map_index: only of these task instances; None for all.
        """
        names = {flow.prefix + step: step for step in steps}
        query = (
            select(
                TaskInstance.task_id,
                TaskInstance.state,
                func.count(),
                func.min(TaskInstance.start_date),
                func.max(TaskInstance.end_date),
                func.max(TaskInstance.try_number),
            )
            .where(*self._of(None, map_index), TaskInstance.task_id.in_(list(names)))
            .group_by(TaskInstance.task_id, TaskInstance.state)
        )
        found: dict[str, list[Any]] = {}
        for row in self._session.execute(query).all():
            found.setdefault(names[row[0]], []).append(row)
        return [_times(step, found.get(step, [])) for step in steps]

    def tasks(self, flow: ShownRecord, step: str, map_index: int) -> list[str] | None:
        """Return the Metaflow tasks of a task instance inside of a foreach, None if that cannot be known.

        :param flow: the flow.
        :param step: the step.
        :param map_index: the task instance.
        """
        reported = self._xcom(flow.prefix + step, XCOM_KEY, map_index)
        try:
            return [one.task_id for one in InstanceOutcome.from_json(reported).tasks][:MAX_TASKS]
        except EditedXComError:
            # It has not finished.
            pass
        for name, source, depth in flow.foreachs:
            if name == step:
                contexts = self._xcom(flow.prefix + source, "return_value", -1)
                try:
                    (context,) = check_contexts(contexts, depth, map_index)
                except EditedXComError:
                    return None
                paths = context_items(context)[:MAX_TASKS]
                return [name for path in paths for name in (task_id(step, path), old_task_id(path))]
        return None

    def conf(self) -> ParamValues:
        """Return the parameters that the run was triggered with."""
        query = select(DagRun.conf).where(DagRun.dag_id == self.dag_id, DagRun.run_id == self.run_id)
        row = self._session.execute(query).first()
        return dict(row[0]) if row is not None and isinstance(row[0], dict) else {}

    def events(self) -> set[str]:
        """Return the names of the events that the run was started by."""
        query = (
            select(AssetModel.name)
            .select_from(DagRun)
            .join(DagRun.consumed_asset_events)
            .join(AssetEvent.asset)
            .where(DagRun.dag_id == self.dag_id, DagRun.run_id == self.run_id)
        )
        names = (event_of(str(row[0])) for row in self._session.execute(query).all())
        return {name for name in names if name is not None}

    def _of(self, task: str | None, map_index: int | None = None) -> list[Any]:
        found: list[Any] = [TaskInstance.dag_id == self.dag_id, TaskInstance.run_id == self.run_id]
        if task is not None:
            found.append(TaskInstance.task_id == task)
        if map_index is not None:
            found.append(TaskInstance.map_index == map_index)
        return found

    def _xcom(self, task: str, key: str, map_index: int) -> Any:
        query = XComModel.get_many(
            run_id=self.run_id, dag_ids=self.dag_id, task_ids=task, map_indexes=map_index, key=key, limit=1
        )
        found = self._session.scalars(query).first()
        value = None if found is None else found.value
        if isinstance(value, str) and value[:1] in ("{", "["):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value


def _times(step: str, rows: Sequence[Any]) -> StepTimes:
    states = {str(getattr(row[1], "value", row[1]) or "waiting"): int(row[2]) for row in rows}
    starts, ends = [row[3] for row in rows if row[3]], [row[4] for row in rows if row[4]]
    is_over = bool(rows) and states.keys() <= {"success", "failed", "skipped", "upstream_failed", "removed"}
    return StepTimes(
        step=step,
        states=states,
        start=min(starts, default=None),
        end=max(ends, default=None) if is_over else None,
        tries=max((int(row[5] or 0) for row in rows), default=0),
    )
