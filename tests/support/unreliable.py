"""A proxy in front of a real server that loses answers and refuses requests when a test asks it to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass
class UnreliableProxy:
    """What the next requests meet, first in first out; without a fault a request is passed on.

    Faults: an HTTP status to answer with, ``lost`` (passed on, but the connection breaks before the answer),
    ``refused`` (the connection breaks at once).
    """

    target: str
    url: str = ""
    faults: list[int | str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def next_fault(self, method: str, path: str) -> int | str | None:
        self.seen.append(f"{method} {path}")
        return self.faults.pop(0) if self.faults else None


@contextmanager
def unreliable(target: str) -> Iterator[UnreliableProxy]:
    """Start a proxy on a free port of the loopback."""
    proxy = UnreliableProxy(target)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.next_fault(self.command, self.path)
            if fault == "refused":
                self.connection.close()
                return
            if isinstance(fault, int):
                self.answer(fault, b'{"detail": "not now"}')
                return
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
            passed_on = httpx.request(self.command, target + self.path, content=body, headers=headers, timeout=60)
            if fault == "lost":
                self.connection.close()
                return
            self.answer(passed_on.status_code, passed_on.content)

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
