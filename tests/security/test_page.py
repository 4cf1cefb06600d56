"""The page beside Airflow's own: where it looks, how much of the API server it takes, and what it lets out."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.support.environment import environment_variable

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.deploy.record import flows_of, from_markdown
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from airflow_provider_metaflow.plan.record import LINE, record_line
from airflow_provider_metaflow.plugin import app as page
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import MetaflowQueryError
from metaflow_orchestration.graph.identity import airflow_run_id

RUN = "/dags/LinearFlow/runs/manual__1"


def serialized(manifest: Manifest, folder: Path, **arguments: Any) -> dict[str, Any]:
    """Return a DAG as Airflow keeps it."""
    from airflow.serialization.serialized_objects import DagSerialization

    file = folder / "flow.metaflow.json"
    file.write_bytes(encode_manifest(manifest))
    data: dict[str, Any] = json.loads(json.dumps(DagSerialization.to_dict(MetaflowDag(file, **arguments))))
    return data


def forged_line() -> str:
    record = {"flow": "Forged", "owner": "x", "digest": "", "datastore_root": "/etc"}
    return LINE.format(base64.b64encode(json.dumps(record).encode()).decode())


class Rows:
    """What Airflow's database holds of the start step: its XCom, and whether it has been tried."""

    def __init__(self) -> None:
        self.reported: Any = None
        self.tried = True
        self.state = "running"

    def scalars(self, query: Any) -> Any:
        if "FROM xcom" in str(query):
            found = SimpleNamespace(value=self.reported) if self.reported is not None else None
        elif "FROM dag_run" in str(query):
            found = self.state
        else:
            found = "running" if self.tried else None
        return SimpleNamespace(first=lambda: found)

    def execute(self, query: Any) -> Any:
        return SimpleNamespace(first=lambda: None, all=list)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def manifest(compiled: Callable[..., Manifest]) -> Manifest:
    return compiled("linear")


@pytest.fixture
def client(manifest: Manifest, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The page for somebody who may read the DAG."""
    from airflow.api_fastapi.common.db.common import _get_session

    row = SimpleNamespace(data=serialized(manifest, tmp_path))
    monkeypatch.setattr(page.SerializedDagModel, "get", lambda *_, **__: row)
    monkeypatch.setattr(MetaflowHook, "get_conn", lambda _: {})
    monkeypatch.setattr(page, "_LIMIT", page.ReadingLimit(running=2, waiting=1, patience=0.2))
    monkeypatch.setattr(page, "_CACHE", page.ShortCache(seconds=5.0, size=32))
    (may_read,) = page._MAY_READ
    monkeypatch.setitem(page.app.dependency_overrides, may_read.dependency, lambda: None)
    monkeypatch.setitem(page.app.dependency_overrides, _get_session, lambda: rows)
    monkeypatch.setitem(page.app.dependency_overrides, page.allowed_parts, lambda: frozenset(("values", "errors")))
    with TestClient(page.app, raise_server_exceptions=False) as made:
        yield made


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]) -> None:
    monkeypatch.setattr(MetaflowHook, "ask", lambda _, op, **question: answer(op, **question))


def overview(pathspec: str) -> dict[str, Any]:
    known = {"exists": True, "finished": True, "tags": [], "parameters": {}, "steps": [], "complete": True}
    return {**known, "pathspec": pathspec}


def test_the_page_shows_the_run_of_a_dag_run_that_was_made_again_and_never_the_old_one(
    client: TestClient, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = airflow_run_id("LinearFlow", "manual__1")
    asked: list[str] = []
    answering(monkeypatch, lambda _, pathspec, **__: asked.append(pathspec) or overview(pathspec))
    rows.tried = False
    assert "The run has not begun yet." in client.get(RUN).text
    assert asked == []
    assert client.get(f"{RUN}/cards/start/t/abc").status_code == 404
    rows.reported = f"{first}-2"
    assert f"LinearFlow/{first}-2" in client.get(RUN).text
    # Of a run without an XCom, and where somebody has edited it.
    rows.tried, rows.reported = True, None
    client.get(RUN)
    rows.reported = airflow_run_id("other", "manual__1")
    client.get(RUN)
    assert set(asked) == {f"LinearFlow/{first}-2", f"LinearFlow/{first}"}


@pytest.mark.parametrize(
    ("state", "finished", "shown", "of_task"),
    [
        ("running", False, "not finished", "not finished"),
        ("failed", False, "failed", "failed"),
        ("failed", True, "failed", "failed"),
        ("success", True, "finished", "failed"),
    ],
)
def test_a_run_that_failed_and_its_killed_task_are_shown_as_failed(
    client: TestClient,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    finished: bool,
    shown: str,
    of_task: str,
) -> None:
    task = {
        "pathspec": "LinearFlow/r/start/t-start", "task": "t-start", "successful": False, "finished": False,
        "artifacts": [], "cards": [],
    }  # fmt: skip
    steps = [{"step": "start", "tasks": [task]}]
    answering(monkeypatch, lambda _, pathspec, **__: {**overview(pathspec), "finished": finished, "steps": steps})
    rows.state = state
    states = re.findall(r'<span class="state[^>]*>([^<]*)</span>', client.get(RUN).text)
    assert states == [shown, of_task]


def test_where_the_page_looks_comes_from_the_manifest_and_never_from_documentation(
    manifest: Manifest, tmp_path: Path
) -> None:
    data = serialized(manifest, tmp_path, doc_md=f"### Notes\n\n{forged_line()}\n")
    assert forged_line() in data["dag"]["doc_md"]
    (found,) = flows_of(data)
    assert (found.flow, found.datastore_root) == ("LinearFlow", manifest.command.datastore_root)
    data["dag"]["doc_md"] += forged_line()
    assert flows_of(data) == [found]


def test_a_dag_whose_documentation_alone_tells_of_a_flow_is_none() -> None:
    task = {"__var": {"task_type": "BashOperator", "_task_module": "x", "doc_md": forged_line(), "task_id": "start"}}
    assert flows_of({"dag": {"doc_md": forged_line(), "tasks": [task]}}) == []
    assert flows_of({"dag": {"doc_md": forged_line()}}) == []


def test_a_record_in_the_docstring_of_a_flow_is_not_taken_for_that_of_the_deployment(manifest: Manifest) -> None:
    found = from_markdown(f"{forged_line()}\n\n{record_line(manifest)}")
    assert found is not None
    assert found.flow == "LinearFlow"


def test_an_answer_that_metaflow_owes_lets_out_nothing_of_the_machine(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(op: str, **_: Any) -> dict[str, Any]:
        raise MetaflowQueryError("OSError: /etc/canary is not readable")

    answering(monkeypatch, fail)
    for path in (RUN, f"{RUN}/cards/start/t/abc"):
        answer = client.get(path)
        assert answer.status_code == 502
        assert "canary" not in answer.text
        assert "the log of the API server says why" in answer.text
    assert caplog.text.count("/etc/canary is not readable") == 2


def test_what_the_asker_can_mend_is_told_in_the_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(op: str, **_: Any) -> dict[str, Any]:
        raise MetaflowQueryError("the card is 99 bytes large; the limit is 9.", plain=True)

    answering(monkeypatch, fail)
    assert "the card is 99 bytes large" in client.get(f"{RUN}/cards/start/t/abc").text


def test_no_more_readers_run_at_a_time_than_the_limit_says(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, release = [0], [0], threading.Event()
    lock, entered = threading.Lock(), threading.Semaphore(0)

    def slow(op: str, pathspec: str, **_: Any) -> dict[str, Any]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        entered.release()
        assert release.wait(30)
        with lock:
            running[0] -= 1
        return overview(pathspec)

    answering(monkeypatch, slow)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(client.get(f"/dags/LinearFlow/runs/r{n}").status_code))
        for n in range(2)
    ]
    for one in threads:
        one.start()
        assert entered.acquire(timeout=30)
    refused = client.get("/dags/LinearFlow/runs/r9")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    release.set()
    for one in threads:
        one.join(30)
    assert statuses == [200, 200]
    assert most[0] == 2
    assert client.get("/dags/LinearFlow/runs/r9").status_code == 200


def test_a_run_that_many_look_at_is_read_once_in_a_while(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def count(op: str, pathspec: str, **_: Any) -> dict[str, Any]:
        asked.append(pathspec)
        return overview(pathspec)

    answering(monkeypatch, count)
    assert {client.get(RUN).status_code for _ in range(5)} == {200}
    assert client.get(f"{RUN}?task=start").status_code == 200
    assert len(asked) == 2


def test_the_page_waits_for_an_answer_for_seconds_and_not_minutes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def note(op: str, pathspec: str, seconds: float, **_: Any) -> dict[str, Any]:
        waits.append(seconds)
        return overview(pathspec)

    answering(monkeypatch, note)
    client.get(RUN)
    assert 0 < waits[0] <= 15


def test_a_run_is_shown_from_the_files_of_the_manifest_s_datastore(client: TestClient, tmp_path: Path) -> None:
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "elsewhere")):
        answer = client.get(RUN)
    assert answer.status_code == 200
    assert "is not registered with Metaflow yet" in answer.text


def test_an_api_server_starts_the_reading_process_when_it_starts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_metaflow.plugin.plugin import MetaflowPlugin

    prepared = threading.Event()
    monkeypatch.setattr(MetaflowHook, "prepare", lambda _: prepared.set())
    (middleware,) = MetaflowPlugin.fastapi_root_middlewares
    assert not prepared.is_set()
    api_server = object()
    assert middleware["middleware"](api_server) is api_server
    assert prepared.wait(30)


def test_an_api_server_starts_though_metaflow_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: MetaflowHook) -> bool:
        raise MetaflowQueryError("there is no such host")

    monkeypatch.setattr(MetaflowHook, "prepare", fail)
    with caplog.at_level("INFO"):
        page.prepare()
    assert "there is no such host" in caplog.text


def test_one_process_answers_about_the_datastores_of_all_deployments(
    client: TestClient, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def note(op: str, pathspec: str, **more: Any) -> dict[str, Any]:
        asked.append(more)
        return overview(pathspec)

    answering(monkeypatch, note)
    assert client.get(RUN).status_code == 200
    root = manifest.command.datastore_root
    assert asked[0]["source"] == {"metadata": "local", "datastore": "local", "root": root}
    assert asked[0]["stays"]
    assert "variables" not in asked[0]
