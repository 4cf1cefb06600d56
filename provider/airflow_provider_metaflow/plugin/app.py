"""Serves the page: the Metaflow run of a DAG run, for those who may read the DAG.

A card is HTML that users wrote. It is served with ``Content-Security-Policy: sandbox``, which gives it an origin of its
own even where it is opened by itself, and shown in a sandboxed frame: its scripts reach neither Airflow's cookies nor
its API.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import select

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.deploy.record import ShownRecord, from_serialized_dag
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from metaflow_orchestration.exceptions import MetaflowQueryError
from metaflow_orchestration.graph.identity import RUN_KEY, airflow_run_id, reported_run_id

from .deployments import router
from .limits import BusyError, ReadingLimit, ShortCache

log = logging.getLogger(__name__)

MAX_CARD_BYTES = 50 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'"
)
_CARD_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'self'"
)
_SECONDS = 12.0
"""How long the page waits for an answer."""

_LIMIT = ReadingLimit(running=4, waiting=8, patience=5.0)
_CACHE: ShortCache[dict[str, Any]] = ShortCache(seconds=5.0, size=32)

app = FastAPI(title="Metaflow", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(router)
_MAY_READ = [Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))]
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def prepare() -> None:
    """Start what the first opening of the page would wait for: the process that reads from a remote datastore."""
    if not settings.warm_process():
        return
    try:
        MetaflowHook().prepare()
    except Exception as error:
        # The page says why when somebody opens it; Airflow's own pages need none of this.
        log.info("The process that reads from Metaflow is not ready before the first page asks for it: %s", error)


@app.get("/dags/{dag_id}/runs/{run_id}", dependencies=_MAY_READ)
def show_run(
    dag_id: str, run_id: str, session: SessionDep, task: Annotated[str | None, Query()] = None
) -> HTMLResponse:
    """Show a run, or one of its steps.

    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    :param session: session of Airflow's database.
    :param task: Airflow task id; default: all steps.
    """
    record = _record(dag_id, session)
    values: dict[str, Any] = {
        "dag_id": dag_id,
        "run_id": run_id,
        "record": record,
        "run": None,
        "note": "",
        "cards": "",
    }
    if record is None:
        values["note"] = f"The DAG {dag_id} is no Metaflow flow."
        return _page(values)
    step = task if task in record.steps else None
    own = _run_id(dag_id, run_id, record, session)
    if own is None:
        values["note"] = "The run has not begun yet."
        return _page(values)
    pathspec = f"{record.flow}/{own}"
    question = {"pathspec": pathspec, "step": step}
    try:
        # Who may see it was decided before; the answer does not depend on who asks.
        answer = _CACHE.get((record, pathspec, step), lambda: _ask(record, "overview", question))
    except HTTPException as error:
        values["note"] = error.detail
        return _page(values, error.status_code, error.headers)
    values["pathspec"] = pathspec
    if answer["exists"]:
        values["run"] = answer
        values["state"] = _state(dag_id, run_id, session)
        values["cards"] = f"/metaflow/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/cards"
    else:
        values["note"] = f"The run {pathspec} is not registered with Metaflow yet."
    return _page(values)


@app.get("/dags/{dag_id}/runs/{run_id}/cards/{step}/{task}/{card}", dependencies=_MAY_READ)
def show_card(dag_id: str, run_id: str, step: str, task: str, card: str, session: SessionDep) -> HTMLResponse:
    """Show a card of a task of the run.

    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    :param step: the step.
    :param task: Metaflow task id.
    :param card: hash of the card.
    :param session: session of Airflow's database.
    """
    record = _record(dag_id, session)
    if record is None or not all(_NAME.fullmatch(part) for part in (step, task, card)):
        raise HTTPException(404, "There is no such card.")
    # Of this very run: nobody sees the cards of a DAG that they may not read.
    own = _run_id(dag_id, run_id, record, session)
    if own is None:
        raise HTTPException(404, "There is no such card.")
    pathspec = f"{record.flow}/{own}/{step}/{task}"
    answer = _ask(record, "card", {"pathspec": pathspec, "hash": card, "max_bytes": MAX_CARD_BYTES})
    if not answer["exists"]:
        raise HTTPException(404, "There is no such card.")
    return _response(answer["html"], _CARD_POLICY)


def _ask(record: ShownRecord, op: str, question: dict[str, Any]) -> dict[str, Any]:
    """Return Metaflow's answer; what keeps it from one goes to the log, since it may hold details of the machine."""
    try:
        with _LIMIT.slot():
            return MetaflowHook().ask(op, source=_source(record), seconds=_SECONDS, stays=True, **question)
    except BusyError:
        text = "Too many people are looking at runs of Metaflow just now; try again in a few seconds."
        raise HTTPException(503, text, {"Retry-After": "5"}) from None
    except MetaflowQueryError as error:
        log.warning("Metaflow gave no answer about %s: %s", question["pathspec"], error)
        reason = str(error) if error.plain else "the log of the API server says why."
        raise HTTPException(502, f"Metaflow gave no answer: {reason}") from None


def _record(dag_id: str, session: Any) -> ShownRecord | None:
    row = SerializedDagModel.get(dag_id, session=session)
    if row is None:
        raise HTTPException(404, f"There is no DAG {dag_id}.")
    return from_serialized_dag(row.data)


def _run_id(dag_id: str, run_id: str, record: ShownRecord, session: Any) -> str | None:
    """Return the Metaflow run of a DAG run, None as long as its start step has not begun.

    A run that is made again under its old id must not show the one before it.
    """
    first, start = airflow_run_id(dag_id, run_id), record.steps[0]
    xcom = XComModel.get_many(run_id=run_id, dag_ids=dag_id, task_ids=start, map_indexes=-1, key=RUN_KEY, limit=1)
    found = session.scalars(xcom).first()
    if found is not None:
        return reported_run_id(found.value, first)
    tried = select(TaskInstance.state).where(
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id == run_id,
        TaskInstance.task_id == start,
        TaskInstance.try_number > 0,
    )
    # Its XComs were deleted, or a release before 0.2 has run it.
    return first if session.scalars(tried).first() is not None else None


def _state(dag_id: str, run_id: str, session: Any) -> str:
    """Return Airflow's state of a run: Metaflow knows of no end of a run whose end step has not succeeded."""
    found = session.scalars(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).first()
    return str(getattr(found, "value", found))


def _source(record: ShownRecord) -> dict[str, str]:
    """Return where the deployment keeps its runs; what its manifest leaves out is as Metaflow is configured here."""
    found = {"metadata": record.metadata, "datastore": record.datastore, "root": record.datastore_root}
    return {name: value for name, value in found.items() if value}


def _page(values: dict[str, Any], status: int = 200, more: Mapping[str, str] | None = None) -> HTMLResponse:
    return _response(_TEMPLATES.get_template("page.html").render(values), _PAGE_POLICY, status, more)


def _response(html: str, policy: str, status: int = 200, more: Mapping[str, str] | None = None) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-store",
        **(more or {}),
    }
    return HTMLResponse(html, status, headers)
