"""Links of Metaflow tasks and runs, shown at Airflow's task instances."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink

PATHSPEC_KEY = "metaflow_pathspec"
"""XCom with ``Flow/run`` or ``Flow/run/step/task``."""


class MetaflowRunLink(BaseOperatorLink):
    """The page of the run or task in the Metaflow UI, if one is configured (``[metaflow] ui_url``)."""

    name = "Metaflow UI"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        """Return the address, empty if there is none.

        :param operator: the operator, which knows what it ran.
        :param ti_key: the task instance.
        """
        from airflow_provider_metaflow import settings

        ui, pathspec = settings.ui_url(), getattr(operator, PATHSPEC_KEY, None)
        return f"{ui}/{pathspec}" if ui and pathspec else ""


class MetaflowCardsLink(BaseOperatorLink):
    """The cards and artifacts of the task, on the page that this provider adds to Airflow."""

    name = "Metaflow cards"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, empty if the task has not run.

        It is relative to Airflow's web interface, which may stand below a path (``[api] base_url``).

        :param operator: the operator, which knows what it ran.
        :param ti_key: the task instance.
        """
        from urllib.parse import quote

        if not getattr(operator, PATHSPEC_KEY, None):
            return ""
        dag, run, task = (quote(str(one), safe="") for one in (ti_key.dag_id, ti_key.run_id, ti_key.task_id))
        index = f"&map_index={ti_key.map_index}" if ti_key.map_index >= 0 else ""
        return f"metaflow/dags/{dag}/runs/{run}?task={task}{index}"
