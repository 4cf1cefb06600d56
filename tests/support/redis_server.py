"""A Redis server for the tests, which keeps its data when it is started again."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .object_store import free_port
from .patience import wait_until


@dataclass
class Redis:
    """The server, on a port of the loopback.

    :param folder: where it keeps its data.
    :param port: where it listens.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "Redis is missing. These tests need it: apt-get install redis-server"
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
        }
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *(part for name, value in options.items() for part in (f"--{name}", value))],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, pause=0.1)

    def kill(self) -> None:
        """End it as the kernel does when memory is short; what it was told is on the disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """Start a server on a free port, and end it."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Redis(folder, free_port("127.0.0.1"))
    server.start()
    try:
        yield server
    finally:
        server.kill()
