"""Connects to a runner process that stays between tasks, and starts one if there is none."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .runner_process import RunnerSettings, process_variables, runner_command, runner_environment, runner_file

_START_SECONDS = 60.0


def _key(settings: RunnerSettings) -> str:
    shaping = process_variables(settings.environment)
    runner = runner_file()
    identity = [settings.python, str(settings.root), str(runner), runner.stat().st_mtime_ns, shaping]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]


def _socket_folder() -> Path:
    """Return the folder of the sockets, which only this user may enter (paths of sockets end at 107 bytes)."""
    folder = Path(tempfile.gettempdir()) / f"metaflow-airflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or folder.is_symlink():
        raise OSError(f"{folder} is not private to this user")
    return folder


def connect_warm(settings: RunnerSettings) -> socket.socket:
    """Return a connection to a runner process that serves such settings.

    :param settings: how it was, or is, started.
    :raises OSError: if none answers and none can be started.
    """
    base = _socket_folder() / _key(settings)
    path = f"{base}.sock"
    connection = _try_connect(path)
    if connection is not None:
        return connection
    with Path(f"{base}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _try_connect(path)
        if connection is not None:
            return connection
        with Path(f"{base}.log").open("wb") as output:
            server = subprocess.Popen(
                [*runner_command(settings), "--serve", path, "--idle", str(settings.idle_seconds)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=runner_environment(settings),
                cwd="/",
                start_new_session=True,
            )
        return _await(lambda: _try_connect(path), server)


def _await(connect: Callable[[], socket.socket | None], server: subprocess.Popen[bytes]) -> socket.socket:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        connection = connect()
        if connection is not None:
            return connection
        if server.poll() is not None:
            raise OSError(f"it exited with status {server.returncode}")
        time.sleep(0.01)
    server.kill()
    raise OSError(f"it did not answer within {_START_SECONDS:.0f} s")


def _try_connect(path: str) -> socket.socket | None:
    """Return a connection to a runner that answers, None if there is none or it exits just now."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_START_SECONDS)
    try:
        connection.connect(path)
        ready = connection.recv(1)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        ready = b""
    except BaseException:
        connection.close()
        raise
    if not ready:
        connection.close()
        return None
    connection.settimeout(None)
    return connection
