"""Airflow's tables in memory, and the page over them for somebody who may see all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.common.db.common import _get_session
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from airflow_provider_metaflow.plugin import app as page
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest

BEGAN = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
RUN = "manual__1"


class Airflow:
    """A DAG with a run, as Airflow's database has them.

    :ivar answers: what Metaflow answers, by the operation that it is asked.
    :ivar asked: what it was asked.
    :ivar allowed: what the reader of the page may see.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.data = session, {}
        self.client: TestClient
        self.answers: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.allowed = frozenset(("values", "errors"))

    def dag(self, dag: DAG) -> None:
        """Keep a DAG in its serialized form."""
        from airflow.serialization.serialized_objects import DagSerialization

        self.data = json.loads(json.dumps(DagSerialization.to_dict(dag)))

    def run(self, state: str = "running", conf: dict[str, Any] | None = None) -> None:
        """Add the run of the DAG."""
        values = {"state": state, "conf": conf or {}, "run_type": "manual", "run_after": BEGAN}
        self._add(DagRun, id=1, dag_id="d", run_id=RUN, **values)

    def task(
        self,
        task_id: str,
        state: str = "success",
        index: int = -1,
        *,
        at: float = 0,
        took: float | None = 1,
        tries: int = 1,
    ) -> None:
        """Add a task instance that began some seconds after the run, and took some."""
        start = BEGAN + timedelta(seconds=at)
        self._add(
            TaskInstance,
            dag_id="d",
            run_id=RUN,
            task_id=task_id,
            map_index=index,
            state=state,
            start_date=start,
            end_date=None if took is None else start + timedelta(seconds=took),
            try_number=tries,
            pool="default_pool",
            pool_slots=1,
            max_tries=tries,
        )

    def xcom(self, task_id: str, key: str, value: Any, index: int = -1) -> None:
        """Add an XCom."""
        self._add(
            XComModel, dag_run_id=1, dag_id="d", run_id=RUN, task_id=task_id, map_index=index, key=key, value=value
        )

    def _add(self, model: Any, **values: Any) -> None:
        known = {column.name for column in model.__table__.columns}
        self.session.execute(insert(model.__table__).values({k: v for k, v in values.items() if k in known}))

    def get(self, query: str = "") -> str:
        """Return the page."""
        answer = self.client.get(f"/dags/d/runs/{RUN}{query}")
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    import_all_models()
    Base.metadata.create_all(engine)
    with Session(engine) as opened:
        yield opened


@pytest.fixture
def airflow(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    made = Airflow(session)
    monkeypatch.setattr(page.SerializedDagModel, "get", lambda *_, **__: SimpleNamespace(data=made.data))
    monkeypatch.setattr(page, "_CACHE", page.ShortCache(seconds=5.0, size=32))
    (may_read,) = page._MAY_READ
    for dependency, answer in [
        (may_read.dependency, lambda: None),
        (page.allowed_parts, lambda: made.allowed),
        (_get_session, lambda: session),
    ]:
        monkeypatch.setitem(page.app.dependency_overrides, dependency, answer)

    def ask(_: MetaflowHook, op: str, **question: Any) -> dict[str, Any]:
        made.asked.append(question)
        return {**overview(question["pathspec"]), **made.answers}

    monkeypatch.setattr(MetaflowHook, "ask", ask)
    with TestClient(page.app) as client:
        made.client = client
        yield made


def overview(pathspec: str) -> dict[str, Any]:
    """An answer about a run of which nothing is known."""
    known = {"exists": True, "finished": False, "tags": [], "parameters": {}, "steps": [], "complete": True}
    return {**known, "pathspec": pathspec}


def task(pathspec: str, **fields: Any) -> dict[str, Any]:
    """What an answer says of a task."""
    known = {"successful": True, "finished": True, "attempt": 0, "error": None, "artifacts": [], "cards": []}
    return {**known, "pathspec": pathspec, "task": pathspec.rpartition("/")[2], **fields}


@pytest.fixture
def manifest_of(recorded: Callable[[str], Manifest], tmp_path: Path) -> Callable[[str], Path]:
    """Writes the manifest of a recorded flow."""

    def write(name: str) -> Path:
        path = tmp_path / f"{name.replace('/', '-')}.metaflow.json"
        path.write_bytes(encode_manifest(recorded(name)))
        return path

    return write
