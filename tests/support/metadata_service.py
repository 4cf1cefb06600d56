"""A double of Metaflow's metadata service, which no registry has: its HTTP routes over a dictionary.

The routes are those that Metaflow's client asks for (``metaflow.plugins.metadata_providers.service``). Real Metaflow
fills it and reads it; it keeps no database, checks nothing but an API key, and is no proof of the real service.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Document = dict[str, Any]

_CREATE = re.compile(r"(?P<parent>.*)/(?P<kind>run|step|task)")
_ADD = re.compile(r"(?P<parent>.*)/(?P<kind>artifact|metadata)")
_ARTIFACT = re.compile(r"(?P<list>.*/artifacts)/(?P<name>[^/]+?)(/attempt/\d+)?")
_PARTS = re.compile(r"/(flows|runs|steps|tasks)/([^/]+)")
_NAMES = {"flows": "flow_id", "runs": "run_number", "steps": "step_name", "tasks": "task_id"}


@dataclass
class MetadataService:
    """The service: address, and what it holds by path."""

    key: str
    url: str = ""
    objects: dict[str, Document] = field(default_factory=dict)
    lists: dict[str, list[Document]] = field(default_factory=dict)
    beats: list[str] = field(default_factory=list)

    def get(self, path: str) -> Any:
        if path in self.objects:
            return self.objects[path]
        one = _ARTIFACT.fullmatch(path)
        if one:
            held = [artifact for artifact in self.lists.get(one["list"], []) if artifact["name"] == one["name"]]
            return held[-1] if held else None
        parent, _, collection = path.rpartition("/")
        if collection in ("artifacts", "metadata"):
            return self.lists.get(path, [])
        found = [one for name, one in self.objects.items() if name.rpartition("/")[0] == path]
        return found if found or parent in self.objects else None

    def post(self, path: str, body: Any) -> Any:
        if path.endswith("/heartbeat"):
            self.beats.append(path)
            return {"wait_time_in_seconds": 10}
        adding = _ADD.fullmatch(path)
        if adding:
            collection = f"{adding['parent']}/{'artifacts' if adding['kind'] == 'artifact' else 'metadata'}"
            held = self.lists.setdefault(collection, [])
            held.extend(self._document(adding["parent"], one, id=len(held)) for one in body)
            return {}
        creating = _CREATE.fullmatch(path)
        if creating:
            parent, kind = creating["parent"], creating["kind"]
            # A step is made below its own path, runs and tasks below their parent's.
            given = body.get("run_number" if kind == "run" else "task_id") or len(self.objects)
            path = parent if kind == "step" else f"{parent}/{kind}s/{given}"
        self.objects[path] = self._document(path, body)
        return self.objects[path]

    def _document(self, path: str, body: Document, **more: Any) -> Document:
        ids = {_NAMES[kind]: name for kind, name in _PARTS.findall(path)}
        known = {"tags": [], "system_tags": [], "user_name": "tester", "ts_epoch": time.time_ns() // 10**6}
        return {**known, **body, **ids, **more}


@contextmanager
def metadata_service(key: str, host: str = "127.0.0.1") -> Iterator[MetadataService]:
    """Start it on a free port of the loopback; requests must carry the API key."""
    service = MetadataService(key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({} if self.path == "/ping" else service.get(self.path))

        def do_POST(self) -> None:
            self.answer(service.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def answer(self, content: Any) -> None:
            status = 403 if self.headers.get("x-api-key", "") != service.key else 404 if content is None else 200
            data = json.dumps(content if status == 200 else {"message": "no"}).encode()
            self.send_response(status)
            self.send_header("METADATA_SERVICE_VERSION", "2.5.0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer((host, 0), Handler)
    service.url = f"http://{host}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
