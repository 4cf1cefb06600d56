"""Credentials for Airflow go to Airflow alone, and a request is carried out as it was meant or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_metaflow.rest.client import AirflowApiError, AirflowClient
from airflow_provider_metaflow.rest.endpoint import Endpoint
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import side_task


@dataclass
class Server:
    """An HTTP server that redirects some paths, answers the others, and remembers what it was asked."""

    redirects: dict[str, tuple[int, str]] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def serve() -> Iterator[Callable[[], Server]]:
    """Starts such servers, each at an origin of its own."""
    with ExitStack() as stack:

        def start() -> Server:
            state = Server()

            class Handler(BaseHTTPRequestHandler):
                def answer(self) -> None:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                    state.seen.append((self.command, self.path, body))
                    state.secrets.append(self.headers.get("Authorization", "") + body)
                    status, location = state.redirects.get(self.path.split("?")[0], (200, ""))
                    self.send_response(status)
                    if location:
                        self.send_header("Location", location)
                    data = json.dumps({"access_token": "token-1", "by": state.url}).encode()
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

                do_GET = do_POST = do_PATCH = do_DELETE = answer

                def log_message(self, *_: object) -> None:
                    """Be silent."""

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            state.url = f"http://127.0.0.1:{server.server_address[1]}"
            return state

        yield start


def client(server: Server, **more: Any) -> AirflowClient:
    return AirflowClient(Endpoint(url=server.url, patience=0, **more))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("way", ["token", "password"])
def test_credentials_do_not_follow_a_redirect_to_another_server(
    serve: Callable[[], Server], status: int, way: str
) -> None:
    airflow, thief = serve(), serve()
    log_in = {"token": "secret-token"} if way == "token" else {"username": "u", "password": "secret-password"}
    path = "/api/v2/dags" if way == "token" else "/auth/token"
    airflow.redirects[path] = (status, f"{thief.url.replace('://', '://u:p@')}{path}?q=secret-of-the-query")
    with client(airflow, **log_in) as opened:
        with pytest.raises(AirflowApiError, match=r"redirects .* to another server, .*METAFLOW_AIRFLOW_URL") as raised:
            opened.request("POST", "/dags", json={"a": 1})
    assert thief.seen == []
    assert thief.url in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_request_that_is_redirected_on_its_server_is_the_same_request_there(
    serve: Callable[[], Server], status: int, method: str
) -> None:
    airflow = serve()
    airflow.redirects["/api/v2/dags"] = (status, "/airflow/api/v2/dags?limit=3")
    body = {} if method == "DELETE" else {"json": {"dag": "x"}}
    with client(airflow, token="t") as opened:
        assert opened.request(method, "/dags", params={"limit": 3}, **body)["by"] == airflow.url
    first, second = airflow.seen
    assert (first[0], first[2]) == (second[0], second[2]) == (method, first[2])
    assert second[1] == "/airflow/api/v2/dags?limit=3"
    assert airflow.secrets[1].startswith("Bearer t")


def test_a_redirect_to_a_page_is_an_error_and_no_success(serve: Callable[[], Server]) -> None:
    airflow = serve()
    airflow.redirects["/api/v2/dags"] = (303, "/login")
    with client(airflow, token="t") as opened:
        with pytest.raises(AirflowApiError, match=r"redirect to the page /login"):
            opened.request("POST", "/dags", json={})
    assert len(airflow.seen) == 1


def test_redirects_in_circles_end(serve: Callable[[], Server]) -> None:
    airflow = serve()
    airflow.redirects["/api/v2/dags"] = (307, "/api/v2/dags")
    with client(airflow, token="t") as opened:
        with pytest.raises(AirflowApiError, match=r"redirects GET /api/v2/dags in circles"):
            opened.request("GET", "/dags")
    assert len(airflow.seen) < 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_keys_of_notifications_do_not_follow_a_redirect_and_no_message_counts_as_sent(
    serve: Callable[[], Server], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    service, thief = serve(), serve()
    service.redirects["/v2/alert_events/http/source-1"] = (status, f"{thief.url}/elsewhere")
    monkeypatch.setenv("METAFLOW_ORCHESTRATOR_RUN", "argo-f-x1")
    monkeypatch.setenv("METAFLOW_NOTIFY_INCIDENT_IO", "secret-key")
    monkeypatch.setenv("METAFLOW_INCIDENT_IO_URL", service.url)
    document = {"env": {}, "flow_name": "F", "flow_file": "f.py", "deployment": "f", "alert_source": "source-1"}
    assert side_task.main({**document, "metadata": {}, "succeeded": False}, ".") == 1
    assert len(service.seen) == 1
    assert thief.seen == []
    assert "secret-key" not in str(capsys.readouterr())
