"""A PostgreSQL server for the tests: Debian's, on a free port, as a user that is not root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .patience import wait_until

# What was committed is written to files at once, though not to the disk: a server that is killed loses nothing of it.
_OPTIONS = ("fsync=off", "full_page_writes=off", "max_connections=300")


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if path := shutil.which("initdb"):
        return Path(path).parent
    raise RuntimeError("PostgreSQL is missing. These tests need it: apt-get install postgresql")


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command] if os.getuid() == 0 else command
    )


@dataclass
class Postgres:
    """A server in a folder of its own.

    :param folder: all that it has.
    :param port: on the loopback.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of its database."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"

    def start(self) -> None:
        """Start it, and wait until it answers."""

        def answers() -> bool:
            if self._process is None or self._process.poll() is not None:
                # It refuses to start while a process of one that was killed is left.
                self._spawn()
            asked = [_binaries() / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
            return subprocess.run(asked, capture_output=True).returncode == 0

        try:
            wait_until(answers, pause=0.1)
        except AssertionError:
            raise RuntimeError((self.folder / "server.log").read_text()[-3000:]) from None

    def _spawn(self) -> None:
        command = [str(_binaries() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                _as_user([*command, *(part for option in _OPTIONS for part in ("-c", option))]),
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )

    def kill(self) -> None:
        """End it as the kernel does when memory is short; what was committed is with the kernel."""
        assert self._process is not None
        # Each of its processes has a group of its own.
        backends = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, backends)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Stop it, without waiting for its clients."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server with a database; stop it and remove it at the end."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="metaflow-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    initialize = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "airflow", "--auth=trust", "--no-sync"]
    subprocess.run(_as_user(initialize), check=True, capture_output=True, cwd=folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Postgres(folder, probe.getsockname()[1])
    try:
        server.start()
        create = [binaries / "createdb", "-h", "127.0.0.1", "-p", str(server.port), "-U", "airflow", "airflow"]
        subprocess.run(create, check=True)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
