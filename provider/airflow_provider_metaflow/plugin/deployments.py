"""Lists deployed flows with their records, page by page; Airflow's own list of DAGs leaves their documentation out."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel, DagTag
from airflow.models.serialized_dag import SerializedDagModel
from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from sqlalchemy import func, select

from airflow_provider_metaflow.deploy.record import record_text
from airflow_provider_metaflow.rest.client import AirflowObject
from airflow_provider_metaflow.rest.dags import TAG

router = APIRouter()
MAY_LIST = [Depends(requires_access_dag("GET"))]


@router.get("/deployments", dependencies=MAY_LIST)
def list_deployments(
    user: GetUserDep,
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> JSONResponse:
    """Return a page of deployed flows that the caller may read, in the form of Airflow's list of DAGs.

    :param user: the caller.
    :param session: session of Airflow's database.
    :param limit: size of a page.
    :param offset: how many come before it.
    """
    # Not by Airflow's `ReadableDagsFilterDep`, which looks for the manager in the state of Airflow's own application.
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    query = select(DagModel).where(DagModel.tags.any(DagTag.name == TAG), DagModel.dag_id.in_(readable))
    total = session.scalar(select(func.count()).select_from(query.subquery()))
    rows = session.scalars(query.order_by(DagModel.dag_id).limit(limit).offset(offset)).all()
    ids = [row.dag_id for row in rows]
    found = SerializedDagModel.get_latest_serialized_dags(dag_ids=ids, session=session) if ids else ()
    records = {one.dag_id: record_text((one.data or {}).get("dag", {}).get("doc_md")) for one in found}
    return JSONResponse({"dags": [_shown(row, records.get(row.dag_id)) for row in rows], "total_entries": total})


def _shown(row: DagModel, record: str | None) -> AirflowObject:
    return {
        "dag_id": row.dag_id,
        "is_paused": row.is_paused,
        "is_stale": row.is_stale,
        "tags": [{"name": tag.name} for tag in row.tags],
        "relative_fileloc": row.relative_fileloc,
        "doc_md": record,
    }
