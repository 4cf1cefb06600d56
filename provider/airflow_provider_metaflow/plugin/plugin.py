"""Registers the page as a view of DAG runs and of task instances (Airflow 3.1 and newer).

It also imports what DAG files import of this package. DAG processor, scheduler and Celery worker load plugins when they
start, and fork a process for each file that they parse: it finds the modules in memory. Airflow imports ahead those of
its own only, whose names begin with ``airflow.`` (``[dag_processor] parsing_pre_import_modules``).
"""

from __future__ import annotations

import base64
import threading
from typing import Any

from airflow.plugins_manager import AirflowPlugin

import airflow_provider_metaflow.dag.factory
import airflow_provider_metaflow.dag.loader  # noqa: F401
import metaflow_orchestration.compile.cache.entry  # noqa: F401
from metaflow_orchestration.compile.cache import keys

_RUN = "metaflow/dags/{DAG_ID}/runs/{RUN_ID}"
"""Relative to the web interface, which may stand below a path (``[api] base_url``, the ``<base>`` of its pages)."""
_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{}' stroke-width='2' "
    "stroke-linecap='round' stroke-linejoin='round'><circle cx='4' cy='12' r='2'/><circle cx='20' cy='12' r='2'/>"
    "<circle cx='12' cy='5' r='2'/><circle cx='12' cy='19' r='2'/>"
    "<path d='M5.5 10.5 10.5 6.5M13.5 6.5 18.5 10.5M5.5 13.5 10.5 17.5M13.5 17.5 18.5 13.5'/></svg>"
)
"""A step that splits into two branches, which are joined."""

keys.versions()


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


def _icon(colour: str) -> str:
    """Return the icon as an address that needs no request."""
    return f"data:image/svg+xml;base64,{base64.b64encode(_ICON.format(colour).encode()).decode()}"


_LOOK = {"name": "Metaflow", "icon": _icon("#3f3f46"), "icon_dark_mode": _icon("#e4e4e7")}


class MetaflowPlugin(AirflowPlugin):
    """Shows the Metaflow run of a DAG run: its timeline, parameters, artifacts, errors and cards."""

    name = "metaflow"
    fastapi_apps = [{"app": _lazy_app(), "url_prefix": "/metaflow", "name": "Metaflow"}]
    fastapi_root_middlewares = [{"middleware": _prepared, "name": "Metaflow"}]
    external_views = [
        {**_LOOK, "href": _RUN, "destination": "dag_run", "url_route": "metaflow-run"},
        {
            **_LOOK,
            "href": f"{_RUN}?task={{TASK_ID}}&map_index={{MAP_INDEX}}",
            "destination": "task_instance",
            "url_route": "metaflow-task",
        },
    ]
