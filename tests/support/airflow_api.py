"""An Airflow API v2 over loopback HTTP that fails on demand: what the verbs ask for, with its pages, errors and log-in.

The forms of the answers are those of Airflow 3.3; `tests/integration` has the same verbs against a real one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = dict[str, Any]
_DAG = r"/dags/(?P<dag>[^/]+)"
_RUN = _DAG + r"/dagRuns/(?P<run>[^/]+)"


@dataclass
class AirflowApi:
    """The objects of one Airflow.

    :ivar refuse: statuses to answer the next requests with, by method and end of the path; `0` drops the connection.
    :ivar page: the most that a page holds, as `[api] maximum_page_limit` does.
    :ivar users: passwords by user; without any, everybody is let in.
    """

    url: str = ""
    dags: dict[str, Json] = field(default_factory=dict)
    runs: dict[str, list[Json]] = field(default_factory=dict)
    tasks: dict[str, list[Json]] = field(default_factory=dict)
    logs: dict[tuple[str, int, int], Any] = field(default_factory=dict)
    xcoms: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    events: dict[str, list[Json]] = field(default_factory=dict)
    connections: dict[str, Json] = field(default_factory=dict)
    pools: dict[str, Json] = field(default_factory=dict)
    import_errors: list[Json] = field(default_factory=list)
    assets: list[Json] = field(default_factory=list)
    asset_events: list[Json] = field(default_factory=list)
    refuse: dict[tuple[str, str], list[int | tuple[int, Json]]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    page: int = 100
    has_plugin: bool = False
    tokens: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    on_request: Callable[[str, str], None] = lambda *_: None

    def add_dag(self, name: str, doc: str | None = None, **more: Any) -> Json:
        """Let Airflow have parsed a DAG."""
        self.dags[name] = {
            "dag_id": name, "is_paused": False, "is_stale": False, "tags": [{"name": "metaflow"}],
            "relative_fileloc": f"{name}.py", "doc_md": doc, **more,
        }  # fmt: skip
        self.runs.setdefault(name, [])
        return self.dags[name]

    def add_run(self, dag: str, name: str, state: str = "running", **more: Any) -> Json:
        """Let a DAG have a run."""
        run = {
            "dag_id": dag, "dag_run_id": name, "state": state, "start_date": "2026-01-01T00:00:00Z",
            "end_date": "2026-01-01T00:01:30Z" if state in ("success", "failed") else None, "conf": {}, **more,
        }  # fmt: skip
        self.runs.setdefault(dag, []).append(run)
        return run

    def add_task(self, run: str, task: str, state: str | None, map_index: int = -1, tries: int = 1) -> None:
        """Let a run have a task instance."""
        self.tasks.setdefault(run, []).append(
            {
                "task_id": task, "map_index": map_index, "state": state, "try_number": tries, "duration": 1.5,
                "rendered_map_index": None,
            }
        )  # fmt: skip

    def paths(self, method: str) -> list[str]:
        """Return the paths of the requests of a kind, below `/api/v2`."""
        return [path.removeprefix("/api/v2") for of, path, _ in self.requests if of == method]

    def answer(self, method: str, url: str, body: Any, token: str | None) -> tuple[int, Any]:
        """Answer one request."""
        path, query = unquote(urlsplit(url).path), parse_qs(urlsplit(url).query)
        self.requests.append((method, path, body))
        self.on_request(method, path)
        for (of, end), statuses in self.refuse.items():
            if of == method and path.endswith(end) and statuses:
                status = statuses.pop(0)
                return status if isinstance(status, tuple) else (status, {"detail": "out of order"})
        if path == "/auth/token":
            return self._log_in(method, body)
        if token not in self.tokens:
            return 401, {"detail": "Not authenticated"}
        if path == "/metaflow/deployments" and self.has_plugin:
            return self._page("dags", list(self.dags.values()), query)
        for route, handle in self._routes().items():
            of, _, pattern = route.partition(" ")
            found = re.fullmatch("/api/v2" + pattern, path)
            if of == method and found:
                return handle(query=query, body=body, **found.groupdict())
        return 404, {"detail": "Not Found"}

    def _log_in(self, method: str, body: Any) -> tuple[int, Any]:
        if self.users and (method != "POST" or self.users.get(body["username"]) != body["password"]):
            return 401, {"detail": "Invalid credentials"}
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return 201, {"access_token": token}

    def _routes(self) -> dict[str, Callable[..., tuple[int, Any]]]:
        return {
            "GET /dags": lambda query, **_: self._page("dags", list(self.dags.values()), query),
            f"GET {_DAG}/details": lambda dag, **_: _found(self.dags.get(dag), "The Dag"),
            f"GET {_DAG}": lambda dag, **_: _found(self.dags.get(dag), "The Dag"),
            f"PATCH {_DAG}": self._patch_dag,
            f"DELETE {_DAG}": lambda dag, **_: (204, None) if self.dags.pop(dag, None) else _missing("The Dag"),
            f"GET {_DAG}/dagRuns": self._list_runs,
            f"POST {_DAG}/dagRuns": self._trigger,
            f"GET {_RUN}": lambda dag, run, **_: _found(self._run(dag, run), "The DagRun"),
            f"PATCH {_RUN}": self._patch_run,
            f"GET {_RUN}/upstreamAssetEvents": lambda run, **_: (200, {"asset_events": self.events.get(run, [])}),
            f"GET {_RUN}/taskInstances": self._list_tasks,
            f"GET {_RUN}/taskInstances/(?P<task>[^/]+)/xcomEntries/(?P<key>[^/]+)": self._xcom,
            f"GET {_RUN}/taskInstances/(?P<task>[^/]+)/logs/(?P<number>[0-9]+)": self._log,
            f"POST {_DAG}/clearTaskInstances": self._clear,
            "GET /importErrors": lambda query, **_: self._page("import_errors", self.import_errors, query),
            "PATCH /connections/(?P<name>[^/]+)": self._patch_connection,
            "POST /connections": self._post_connection,
            "DELETE /connections/(?P<name>[^/]+)": self._delete_connection,
            "GET /assets": self._list_assets,
            "POST /assets/events": lambda body, **_: (200, self.asset_events.append(body) or body),
            "POST /pools": lambda body, **_: (201, self.pools.setdefault(body["name"], body)),
            "GET /connections/(?P<name>[^/]+)": lambda name, **_: _found(self.connections.get(name), "The Connection"),
            "GET /pools/(?P<name>[^/]+)": lambda name, **_: _found(self.pools.get(name), "The Pool"),
        }

    def _page(self, key: str, found: list[Json], query: dict[str, list[str]]) -> tuple[int, Json]:
        offset, limit = (int(query.get(name, ["0"])[0]) for name in ("offset", "limit"))
        return 200, {key: found[offset : offset + min(limit or self.page, self.page)], "total_entries": len(found)}

    def _run(self, dag: str, run: str) -> Json | None:
        return next((one for one in self.runs.get(dag, []) if one["dag_run_id"] == run), None)

    def _patch_dag(self, dag: str, body: Json, **_: Any) -> tuple[int, Any]:
        if dag not in self.dags:
            return _missing("The Dag")
        self.dags[dag].update(body)
        return 200, self.dags[dag]

    def _list_runs(self, dag: str, query: dict[str, list[str]], **_: Any) -> tuple[int, Json]:
        states = query.get("state", [])
        assert query["order_by"] == ["-run_after"]
        found = [one for one in reversed(self.runs.get(dag, [])) if not states or one["state"] in states]
        return self._page("dag_runs", found, query)

    def _trigger(self, dag: str, body: Json, **_: Any) -> tuple[int, Any]:
        if dag not in self.dags:
            return _missing("The Dag")
        if self._run(dag, body["dag_run_id"]) is not None:
            return 409, {"detail": "DAGRun already exists"}
        more = {"conf": body["conf"], "note": body.get("note"), "logical_date": body["logical_date"]}
        return 200, self.add_run(dag, body["dag_run_id"], "queued", start_date=None, **more)

    def _patch_run(self, dag: str, run: str, body: Json, **_: Any) -> tuple[int, Any]:
        found = self._run(dag, run)
        if found is not None:
            found.update(body)
        return _found(found, "The DagRun")

    def _list_tasks(self, run: str, query: dict[str, list[str]], **_: Any) -> tuple[int, Json]:
        wanted = [("task_id", query.get("task_id")), ("state", query.get("state"))]
        found = [
            one for one in self.tasks.get(run, []) if all(not values or one[key] in values for key, values in wanted)
        ]
        return self._page("task_instances", found, query)

    def _xcom(self, run: str, task: str, key: str, **_: Any) -> tuple[int, Any]:
        value = self.xcoms.get((run, task, key))
        return _missing("The XCom entry") if value is None else (200, {"key": key, "value": value})

    def _log(self, task: str, number: str, query: dict[str, list[str]], **_: Any) -> tuple[int, Json]:
        return 200, {"content": self.logs.get((task, int(query["map_index"][0]), int(number)), "")}

    def _clear(self, dag: str, body: Json, **_: Any) -> tuple[int, Json]:
        # What is downstream of a task stands after it here.
        tasks = self.tasks.get(body["dag_run_id"], [])
        if body["only_failed"]:
            found = [one for one in tasks if one["state"] in ("failed", "upstream_failed")]
        else:
            (task,), ids = body["task_ids"], [one["task_id"] for one in tasks]
            assert body["include_downstream"]
            found = tasks[ids.index(task) :]
        if not body["dry_run"]:
            for one in found:
                one["state"] = None
            run = self._run(dag, body["dag_run_id"])
            if run is not None and found and body["reset_dag_runs"]:
                run.update(state="queued", end_date=None)
        return 200, {"task_instances": found, "total_entries": len(found)}

    def _list_assets(self, query: dict[str, list[str]], **_: Any) -> tuple[int, Json]:
        (pattern,) = query["name_pattern"]
        return self._page("assets", [one for one in self.assets if pattern in one["name"]], query)

    def _patch_connection(self, name: str, body: Json, **_: Any) -> tuple[int, Any]:
        if name not in self.connections:
            return _missing("The Connection")
        self.connections[name].update(body)
        return 200, body

    def _post_connection(self, body: Json, **_: Any) -> tuple[int, Any]:
        self.connections[body["connection_id"]] = dict(body)
        return 201, body

    def _delete_connection(self, name: str, **_: Any) -> tuple[int, Any]:
        return (204, None) if self.connections.pop(name, None) is not None else _missing("The Connection")


def import_error(file: str, trace: str, at: datetime | None = None) -> Json:
    """Return an import error as the API shows it."""
    when = (at or datetime.now(timezone.utc)).isoformat().replace("+00:00", "Z")
    return {"filename": file, "stack_trace": trace, "timestamp": when}


def _missing(what: str) -> tuple[int, Json]:
    return 404, {"detail": f"{what} was not found"}


def _found(thing: Json | None, what: str) -> tuple[int, Json]:
    return _missing(what) if thing is None else (200, thing)


@contextmanager
def airflow_api() -> Iterator[AirflowApi]:
    """Serve the API."""
    api = AirflowApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            status, answer = api.answer(self.command, self.path, body, token)
            if not status:
                self.close_connection = True
                return
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (answer or {}).pop("headers", {}).items() if isinstance(answer, dict) else ():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PATCH = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
