"""What both Kubernetes APIs of the tests share: an HTTP server on loopback, and a client's configuration."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import yaml


class Api(Protocol):
    """What is served; tests may replace its method while it is."""

    answer: Callable[[str, str, Any], tuple[int, Any]]
    """From method, path and body of a request to status and answer; a text is sent as it is, all else as JSON."""


def error(status: int, message: str) -> tuple[int, dict[str, Any]]:
    """Return an answer as the API server words it."""
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": message}


@contextmanager
def served(api: Api, folder: Path, **context: str) -> Iterator[Path]:
    """Serve an API; yield the file of a client's configuration, whose context has further fields if given."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, found = api.answer(self.command, self.path, body)
            text = found if isinstance(found, str) else json.dumps(found)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _serve

        def log_message(self, *_: Any) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    file = folder / "kubeconfig"
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", **context}}],
    }
    file.write_text(yaml.safe_dump(configuration))
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
