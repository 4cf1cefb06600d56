"""An object store that does not answer is reported soon, before anything is uploaded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from metaflow_orchestration.compile.deployment import reachable
from metaflow_orchestration.exceptions import FlowCompileError


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it has paused, without doing so."""
    made: list[float] = []
    monkeypatch.setattr(reachable, "time", SimpleNamespace(sleep=made.append))
    monkeypatch.setattr(reachable, "_SECONDS", 0.2)
    return made


@contextmanager
def store(status: int) -> Iterator[str]:
    """A store that answers everything with a status; where that is a redirect, to nowhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("metaflow.metaflow_config.S3_ENDPOINT_URL", url)


def test_a_store_that_refuses_connections_is_reported_without_credentials(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint(monkeypatch, f"http://me:hush@127.0.0.1:{port}")
    with pytest.raises(FlowCompileError, match=rf"127.0.0.1:{port} cannot be reached \(Connection refused\)") as caught:
        reachable.check_reachable("s3", "F")
    assert "hush" not in str(caught.value)
    assert sum(pauses) <= 15


def test_a_store_that_accepts_connections_and_says_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(FlowCompileError, match="no answer in"):
            reachable.check_reachable("s3", "F")


@pytest.mark.parametrize("status", [200, 301, 403, 503])
def test_any_answer_will_do(status: int, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    with store(status) as url:
        endpoint(monkeypatch, url)
        reachable.check_reachable("s3", "F")
    assert pauses == []


def test_the_address_is_that_of_the_datastore(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def problem(url: str) -> Any:
        asked.append(url)

    monkeypatch.setattr(reachable, "_problem", problem)
    monkeypatch.setattr("metaflow.metaflow_config.AZURE_STORAGE_BLOB_SERVICE_ENDPOINT", "https://me.blob")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    for kind in ("azure", "gs", "local"):
        reachable.check_reachable(kind, "F")
    assert asked == ["https://me.blob", "https://storage.googleapis.com"]
