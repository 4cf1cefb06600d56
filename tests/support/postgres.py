"""A PostgreSQL server for the tests: Debian's, on a free port, as a user that is not root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server and yield the SQLAlchemy URL of its database; stop it and remove it at the end."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="metaflow-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        _as_user([str(binaries / "initdb"), "-D", str(data), "-U", "airflow", "--auth=trust", "--no-sync"]),
        check=True,
        capture_output=True,
        cwd=folder,
    )
    options = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"]
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(
        _as_user(
            [
                str(binaries / "postgres"),
                "-D",
                str(data),
                "-p",
                str(port),
                "-h",
                "127.0.0.1",
                "-k",
                str(folder),
                *(part for option in options for part in ("-c", option)),
            ]
        ),
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd=folder,
    )
    try:
        end = time.monotonic() + 60
        while (
            subprocess.run(
                [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True
            ).returncode
            != 0
        ):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError((folder / "server.log").read_text())
            time.sleep(0.1)
        subprocess.run(
            [binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"],
            check=True,
        )
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
