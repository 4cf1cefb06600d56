"""Registers the page as a view of DAG runs and of task instances (Airflow 3.1 and newer)."""

from __future__ import annotations

import threading
from typing import Any

from airflow.plugins_manager import AirflowPlugin

_RUN = "/metaflow/dags/{DAG_ID}/runs/{RUN_ID}"


def _lazy_app() -> Any:
    """Return an ASGI application that loads the real one with the first request: most processes get none."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        from .app import app

        await app(scope, receive, send)

    return call


def _prepared(api_server: Any) -> Any:
    """Return Airflow's application as it is, after a thread has been started that makes the page ready.

    Airflow calls this, as it calls the class of a middleware, when an API server starts and in no other process.
    """

    def prepare() -> None:
        from .app import prepare

        prepare()

    threading.Thread(target=prepare, name="metaflow-prepare", daemon=True).start()
    return api_server


class MetaflowPlugin(AirflowPlugin):
    """Shows the Metaflow run of a DAG run: parameters, artifacts' names and sizes, and cards."""

    name = "metaflow"
    fastapi_apps = [{"app": _lazy_app(), "url_prefix": "/metaflow", "name": "Metaflow"}]
    fastapi_root_middlewares = [{"middleware": _prepared, "name": "Metaflow"}]
    external_views = [
        {"name": "Metaflow", "href": _RUN, "destination": "dag_run", "url_route": "metaflow-run"},
        {
            "name": "Metaflow",
            "href": f"{_RUN}?task={{TASK_ID}}",
            "destination": "task_instance",
            "url_route": "metaflow-task",
        },
    ]
