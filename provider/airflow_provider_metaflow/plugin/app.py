"""Serves the page: the Metaflow run of a DAG run, for those who may read the DAG.

A card is HTML that users wrote. It is served with ``Content-Security-Policy: sandbox``, which gives it an origin of its
own even where it is opened by itself, and shown in a sandboxed frame: its scripts reach neither Airflow's cookies nor
its API.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.serialized_dag import SerializedDagModel
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.deploy.record import ShownRecord, flows_of
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from metaflow_orchestration.exceptions import MetaflowQueryError

from . import view
from .airflow_run import AirflowRun
from .deployments import router
from .limits import BusyError, ReadingLimit, ShortCache

log = logging.getLogger(__name__)

MAX_CARD_BYTES = 50 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SCRIPT = Path(__file__).with_name("page.js").read_text()
# The one script that may run in the page: what users have written never does, wherever it stands.
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_PAGE_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'; connect-src 'self'; style-src 'unsafe-inline'; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_CARD_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'self'"
)
_UNREGISTERED = {
    "": "is not registered with Metaflow yet.",
    "failed": "failed before it was registered with Metaflow; the log of its first task says why.",
}
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


def allowed_parts(request: Request, user: GetUserDep) -> frozenset[str]:
    """Return which parts of the page its reader may see, by the permissions that Airflow has for the like.

    :param request: the request, whose path names the DAG.
    :param user: who asks.
    :return: ``values`` of artifacts, as of XComs, and ``errors`` of tasks, as in their logs.
    """
    found = []
    for part, entity in (("values", DagAccessEntity.XCOM), ("errors", DagAccessEntity.TASK_LOGS)):
        try:
            requires_access_dag("GET", entity)(request, user)
        except HTTPException:
            continue
        found.append(part)
    return frozenset(found)


def _may_see_values(allowed: Annotated[frozenset[str], Depends(allowed_parts)]) -> None:
    """Refuse whoever may not read XComs: a card shows values of artifacts."""
    if "values" not in allowed:
        raise HTTPException(403, "Cards show values: you need the permission to read XComs of this DAG.")


@app.get("/dags/{dag_id}/runs/{run_id}", dependencies=_MAY_READ)
def show_run(
    dag_id: str,
    run_id: str,
    request: Request,
    session: SessionDep,
    allowed: Annotated[frozenset[str], Depends(allowed_parts)],
    task: Annotated[str | None, Query()] = None,
    map_index: Annotated[str | None, Query()] = None,
    flow: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show a run of a flow, or one of its steps.

    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    :param request: the request.
    :param session: session of Airflow's database.
    :param allowed: what the reader may see.
    :param task: Airflow task id; default: all steps.
    :param map_index: its map index; what is no number, as Airflow leaves it for tasks that are not mapped, is none.
    :param flow: prefix of the task ids of the flow, where the DAG has several.
    """
    data = _serialized(dag_id, session)
    flows = flows_of(data)
    record = _chosen(flows, task, flow)
    # Airflow shows the tab at each DAG and each task; where there is no flow, it says nothing.
    values: dict[str, Any] = {"record": record, "run": None, "note": "", "flows": [], "instances": [], "is_live": False}
    if record is None:
        return _page(values)
    run = AirflowRun(session, dag_id, run_id)
    values.update(_choice(run, record, flows, task, map_index))
    index = values["shown_index"]
    own = run.metaflow_run(record, index if record.is_mapped else -1)
    if own is None:
        return _page({**values, "note": "The run has not begun yet."})
    base = str(request.scope.get("root_path") or "").removesuffix("/metaflow")
    step = task.removeprefix(record.prefix) if task and task.removeprefix(record.prefix) in record.steps else None
    tasks = run.tasks(record, step, index) if step and index >= 0 and not record.is_mapped else None
    pathspec = f"{record.flow}/{own}"
    values.update(_of_airflow(run, record, step, index, base))
    values.update(_ways_to(pathspec), step=step, allowed=allowed)
    try:
        answer = _overview(record, pathspec, step, tasks)
    except HTTPException as error:
        return _page({**values, "note": error.detail}, error.status_code, error.headers)
    if answer["exists"]:
        values.update(run=answer, parameters=_parameters(answer["parameters"], record, run, data))
        values["cards"] = view.cards_address(base, dag_id, run_id, record, index)
    else:
        values["note"] = f"The run {pathspec} {_UNREGISTERED.get(values['state'], _UNREGISTERED[''])}"
    return _page(values)


def _chosen(flows: Sequence[ShownRecord], task: str | None, prefix: str | None) -> ShownRecord | None:
    """Return the flow to show: that of a task, or the one with a prefix, or the first; None if there is none."""
    if task is None:
        return next((one for one in flows if one.prefix == prefix), flows[0] if flows else None)
    for one in flows:
        name = task.removeprefix(one.prefix)
        if task.startswith(one.prefix) and (name in one.steps or name.removesuffix("-splits") in one.steps):
            return one
    # A sensor or an exit hook of a flow that is the whole DAG.
    return flows[0] if len(flows) == 1 and not flows[0].prefix else None


def _choice(
    run: AirflowRun, record: ShownRecord, flows: Sequence[ShownRecord], task: str | None, map_index: str | None
) -> dict[str, Any]:
    """Return the state of a DAG run, which map index of it is shown, and what else the reader may choose."""
    state = run.state()
    instances = run.instances(record) if task is None and record.is_mapped else []
    index = int(map_index) if map_index and re.fullmatch(r"[0-9]{1,6}", map_index) else -1
    return {
        "state": state,
        "is_live": state in ("running", "queued"),
        "flows": flows if task is None and len(flows) > 1 else [],
        "instances": instances,
        "shown_index": instances[0] if instances and index < 0 else index,
    }


def _overview(record: ShownRecord, pathspec: str, step: str | None, tasks: Sequence[str] | None) -> dict[str, Any]:
    """Return what Metaflow knows of a run, or of some tasks of a step."""
    question: dict[str, Any] = {"pathspec": pathspec, "step": step, **({} if tasks is None else {"tasks": tasks})}
    # Who may see it was decided before; the answer does not depend on who asks.
    key = (record, pathspec, step, None if tasks is None else tuple(tasks))
    return _CACHE.get(key, lambda: _ask(record, "overview", question))


def _parameters(
    known: Mapping[str, str | None], record: ShownRecord, run: AirflowRun, data: Any
) -> list[view.ShownParameter]:
    """Return the parameters of a run with where their values come from."""
    return view.parameters(known, record, run.conf(), view.param_defaults(data), run.events()) if known else []


def _ways_to(pathspec: str) -> dict[str, Any]:
    """Return how to reach a run elsewhere: in Python, and in Metaflow's own user interface where one is configured."""
    ui = view.web_address(settings.ui_url())
    return {"pathspec": pathspec, "snippet": view.snippet(pathspec), "ui": f"{ui}/{pathspec}" if ui else ""}


def _of_airflow(run: AirflowRun, record: ShownRecord, step: str | None, index: int, base: str) -> dict[str, Any]:
    """Return what Airflow knows of the steps: the timeline, and where the logs are."""
    only = index if record.is_mapped or (step and index >= 0) else None
    times = run.times(record, [step] if step else record.steps, only)
    logs = {
        name: view.log_link(base, run.dag_id, run.run_id, record.prefix + name, -1 if only is None else only)
        for name in record.steps
    }
    return {"timeline": view.timeline(times, datetime.now(timezone.utc)), "logs": logs}


@app.get("/dags/{dag_id}/runs/{run_id}/cards/{step}/{task}/{card}", dependencies=[*_MAY_READ, Depends(_may_see_values)])
def show_card(
    dag_id: str,
    run_id: str,
    step: str,
    task: str,
    card: str,
    session: SessionDep,
    map_index: Annotated[int, Query(ge=-1)] = -1,
    flow: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show a card of a task of the run.

    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    :param step: the step.
    :param task: Metaflow task id.
    :param card: hash of the card.
    :param session: session of Airflow's database.
    :param map_index: which run of a flow in a mapped task group.
    :param flow: prefix of the task ids of the flow, where the DAG has several.
    """
    record = _chosen(flows_of(_serialized(dag_id, session)), None, flow)
    if record is None or not all(_NAME.fullmatch(part) for part in (step, task, card)):
        raise HTTPException(404, "There is no such card.")
    # Of this very run: nobody sees the cards of a DAG that they may not read.
    own = AirflowRun(session, dag_id, run_id).metaflow_run(record, map_index if record.is_mapped else -1)
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


def _serialized(dag_id: str, session: Any) -> Any:
    row = SerializedDagModel.get(dag_id, session=session)
    if row is None:
        raise HTTPException(404, f"There is no DAG {dag_id}.")
    return row.data


def _source(record: ShownRecord) -> dict[str, str]:
    """Return where the deployment keeps its runs; what its manifest leaves out is as Metaflow is configured here."""
    found = {"metadata": record.metadata, "datastore": record.datastore, "root": record.datastore_root}
    return {name: value for name, value in found.items() if value}


def _page(values: dict[str, Any], status: int = 200, more: Mapping[str, str] | None = None) -> HTMLResponse:
    html = _TEMPLATES.get_template("page.html").render(values, script=Markup(_SCRIPT))  # noqa: S704  (a file of ours)
    return _response(html, _PAGE_POLICY, status, more)


def _response(html: str, policy: str, status: int = 200, more: Mapping[str, str] | None = None) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-store",
        **(more or {}),
    }
    return HTMLResponse(html, status, headers)
