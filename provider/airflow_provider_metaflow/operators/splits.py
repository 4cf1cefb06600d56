"""The operator that flattens the splits of a nested foreach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class MetaflowSplitsOperator(BaseOperator):
    """List the index contexts of a foreach that is itself in a foreach; runs no Metaflow task.

    :param foreach_task_id: Airflow task id of the foreach step.
    :param pack_size: how many Metaflow tasks a task instance takes; None means as few as Airflow's limit allows.
    """

    ui_color = "#f4f4f4"

    def __init__(self, *, foreach_task_id: str, pack_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.foreach_task_id = foreach_task_id
        self.pack_size = pack_size

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the contexts, in split order.

        :param context: Airflow's task context.
        """
        from airflow_provider_metaflow import settings
        from airflow_provider_metaflow._compat import AirflowFailException, AirflowSkipException
        from metaflow_orchestration.exceptions import UnsupportedFeatureError
        from metaflow_orchestration.run.contexts import split_contexts
        from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome

        ti: Any = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.foreach_task_id], run_ids=[ti.run_id]).get(
            ti.run_id, {}
        )
        alive = sorted(int(name.rsplit("_", 1)[1]) for name, state in states.items() if str(state) == "success")
        pulled = ti.xcom_pull(task_ids=[self.foreach_task_id], key=XCOM_KEY, map_indexes=alive)
        gone = [index for index, data in zip(alive, pulled, strict=True) if data is None]
        if gone:
            # The foreach would open fewer tasks than it has splits, and nobody would miss them.
            raise AirflowFailException(
                f"task {self.foreach_task_id}: its instances {gone[:10]} have succeeded but reported no splits; clear "
                "them, so that they run again (their XComs were deleted, or they were marked as success)."
            )
        splits = [
            (task.path, task.num_splits or 0, task.values, index)
            for index, data in zip(alive, pulled, strict=True)
            for task in InstanceOutcome.from_json(data).tasks
        ]
        if not splits:
            raise AirflowSkipException("No foreach was executed: the flow took another branch.")
        try:
            return split_contexts(splits, settings.max_map_length(), self.pack_size)
        except UnsupportedFeatureError as error:
            # Another try would meet the same splits.
            raise AirflowFailException(f"task {self.foreach_task_id}: {error}") from error
