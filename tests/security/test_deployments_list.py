"""The plugin lists deployed flows to those who may read them, from Airflow's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.common.db.common import _get_session
from airflow.api_fastapi.core_api.security import get_user
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_provider_metaflow.deploy.record import from_markdown, record_of
from airflow_provider_metaflow.plan.record import record_line
from airflow_provider_metaflow.plugin import app as page
from airflow_provider_metaflow.plugin import deployments
from metaflow_orchestration.documents.manifest import Manifest


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, compiled: Callable[..., Manifest]) -> Iterator[Session]:
    """Airflow's tables with three deployed flows and another DAG."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    import_all_models()
    Base.metadata.create_all(engine)
    docs = {"flow.a": f"Notes\n\n{record_line(compiled('linear'))}", "flow.b": "no record", "plain": None}
    docs["flow.c"] = f"Secret notes\n\n{record_line(compiled('linear'))}"

    class Row:
        def __init__(self, name: str) -> None:
            self.dag_id, self.data = name, {"dag": {"doc_md": docs[name]}}

    def latest(*, dag_ids: list[str], **_: Any) -> list[Row]:
        return [Row(name) for name in dag_ids]

    monkeypatch.setattr(SerializedDagModel, "get_latest_serialized_dags", latest)
    with Session(engine) as opened:
        opened.add(DagBundleModel(name="bundle"))
        for name in docs:
            tags = [] if name == "plain" else [DagTag(name="metaflow", dag_id=name)]
            opened.add(
                DagModel(
                    dag_id=name,
                    is_paused=name == "flow.a",
                    is_stale=False,
                    tags=tags,
                    bundle_name="bundle",
                    fileloc=f"/{name}.py",
                    relative_fileloc=f"{name}.py",
                )
            )
        opened.flush()
        yield opened


@pytest.fixture
def client(session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TestClient]:
    (may_list,) = deployments.MAY_LIST
    for dependency, answer in [
        (may_list.dependency, lambda: None),
        (get_user, lambda: "ann"),
        (_get_session, lambda: session),
    ]:
        monkeypatch.setitem(page.app.dependency_overrides, dependency, answer)

    def readable(*, user: str, method: str) -> set[str]:
        assert (user, method) == ("ann", "GET")
        return {"flow.a", "flow.b", "plain"}

    manager = SimpleNamespace(get_authorized_dag_ids=readable)
    monkeypatch.setattr(deployments, "get_auth_manager", lambda: manager)
    with TestClient(page.app) as made:
        yield made


def test_those_that_the_caller_may_read_are_listed_with_their_record_and_no_more_of_the_documentation(
    client: TestClient, compiled: Callable[..., Manifest]
) -> None:
    answer = client.get("/deployments").json()
    assert [(one["dag_id"], one["is_paused"]) for one in answer["dags"]] == [("flow.a", True), ("flow.b", False)]
    assert answer["total_entries"] == 2
    assert from_markdown(answer["dags"][0]["doc_md"]) == record_of(compiled("linear"))
    assert "Notes" not in answer["dags"][0]["doc_md"]
    assert answer["dags"][1]["doc_md"] is None
    second = client.get("/deployments", params={"limit": 1, "offset": 1}).json()
    assert [one["dag_id"] for one in second["dags"]] == ["flow.b"]


def test_nobody_lists_them_without_a_log_in(session: Session) -> None:
    with TestClient(page.app, raise_server_exceptions=False) as stranger:
        assert stranger.get("/deployments").status_code == 401
