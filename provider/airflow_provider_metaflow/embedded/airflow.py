"""Starts and stops the processes of an Airflow in a folder, and hands out a client of its REST API.

Whoever can trigger its runs runs code as the user who started it, so other users of the machine get no way in: it
listens on the loopback only, asks for a random password, and its folder is private.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import Endpoint
from metaflow_orchestration.compile.processes.environment import user_name
from metaflow_orchestration.exceptions import MetaflowProviderError

from .ports import free_port, no_proxy
from .template import make_database, write_configuration

_START_SECONDS = 180
_STOP_SECONDS = 20
_API_SERVER = "api-server"

USER = "admin"
"""Who may log in."""

_LOG_IN = ("METAFLOW_AIRFLOW_TOKEN", "METAFLOW_AIRFLOW_AUTH_COMMAND")
"""Credentials for another Airflow, which this one must not get."""


class EmbeddedAirflowError(MetaflowProviderError, RuntimeError):
    """The embedded Airflow did not start, or one of its processes ended."""

    fix = (
        "Read the log files that the message names; give another `--home` if the folder belongs to "
        "another release of Airflow."
    )


@dataclass(slots=True)
class EmbeddedAirflow:
    """One Airflow; a context manager that starts it and leaves no process behind.

    :param home: its folder: configuration, logs, ``dags/``, and the database unless one is given. It is made private.
    :param database: SQLAlchemy URL; default: SQLite in the folder.
    :param parallelism: how many tasks run at a time.
    :param settings: further configuration, as ``SECTION__OPTION`` names.
    :param triggerer: also start a triggerer.
    """

    home: Path
    database: str | None = None
    parallelism: int = 4
    settings: Mapping[str, str] = field(default_factory=dict)
    triggerer: bool = False
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _client: AirflowClient | None = None
    _port: int = 0
    _worker_log_port: int = 0
    _trigger_log_port: int = 0

    def __enter__(self) -> EmbeddedAirflow:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dags(self) -> Path:
        """Folder of the DAG files."""
        return self.home / "dags"

    @property
    def url(self) -> str:
        """Address of the API server and the web interface."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def passwords(self) -> Path:
        """File with the password of :data:`USER`, in the form of Airflow's simple auth manager."""
        return self.home / "simple_auth_manager_passwords.json"

    def _password(self) -> str:
        text = _private_file(self.passwords, lambda: json.dumps({USER: secrets.token_urlsafe(16)}) + "\n")
        return str(json.loads(text)[USER])

    def environment(self) -> dict[str, str]:
        """Return the environment of all its processes, also fit for its command line."""
        _make_private(self.home)
        secret = _private_file(self.home / "secret", lambda: secrets.token_urlsafe(32))
        options = {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": str(self.parallelism),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.passwords),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "DATABASE__SQL_ALCHEMY_CONN": self.database or f"sqlite:///{self.home}/airflow.db",
            "API__SECRET_KEY": secret,
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self._port),
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": secret,
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            # Beside another Airflow on the same machine.
            "LOGGING__WORKER_LOG_SERVER_PORT": str(self._worker_log_port),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._trigger_log_port),
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "SCHEDULER__USE_JOB_SCHEDULE": "True",
            "METAFLOW__CACHE_FOLDER": str(self.home / "metaflow"),
            "METAFLOW__WARM_PROCESS_IDLE_SECONDS": "20",
            **self.settings,
        }
        return {
            **{name: value for name, value in os.environ.items() if name not in _LOG_IN},
            **no_proxy(),
            "AIRFLOW_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "METAFLOW_USER": user_name(os.environ),
            # Steps that publish events, and operators that end runs, find it.
            "METAFLOW_AIRFLOW_URL": self.url,
            "METAFLOW_AIRFLOW_USERNAME": USER,
            "METAFLOW_AIRFLOW_PASSWORD": self._password(),
            **{f"AIRFLOW__{name}": value for name, value in options.items()},
        }

    def make_folders(self) -> None:
        """Make its folder and that of the DAG files, which may be filled before the start."""
        _make_private(self.home)
        self.dags.mkdir(exist_ok=True)

    def start(self) -> None:
        """Make the database and start all processes.

        :raises EmbeddedAirflowError: if one of them does not come up; its log says why.
        """
        self._port = self._port or free_port()
        self._worker_log_port = self._worker_log_port or free_port()
        self._trigger_log_port = self._trigger_log_port or free_port()
        self.make_folders()
        write_configuration(self.home)
        if self.database is None:
            make_database(self.home / "airflow.db", self.environment(), lambda: self.run("db", "migrate"))
        else:
            self.run("db", "migrate")
        for name in (_API_SERVER, "scheduler", "dag-processor", *(["triggerer"] if self.triggerer else [])):
            self._spawn(name)
        self._await_api()
        self._client = AirflowClient(Endpoint(url=self.url, username=USER, password=self._password()))

    def stop(self) -> None:
        """Stop all processes, each with its process group."""
        if self._client is not None:
            self._client.close()
            self._client = None
        # The API server keeps nothing, and takes some seconds to end by itself; what the others end with asks it.
        others = [process for name, process in self._processes.items() if name != _API_SERVER]
        for process in others:
            _signal(process, signal.SIGTERM)
        end = time.monotonic() + _STOP_SECONDS
        for process in others:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def run(self, *arguments: str) -> str:
        """Run a command of Airflow's command line and return its output.

        :param arguments: e.g. ``("db", "migrate")``.
        :raises EmbeddedAirflowError: if it fails.
        """
        result = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            told = (result.stdout + result.stderr)[-3000:]
            raise EmbeddedAirflowError(f"`airflow {' '.join(arguments)}` failed:\n{told}")
        return result.stdout

    @property
    def client(self) -> AirflowClient:
        """The client of its REST API.

        :raises EmbeddedAirflowError: if one of its processes has ended.
        """
        self.check_alive()
        if self._client is None:
            raise EmbeddedAirflowError("Airflow is not started.")
        return self._client

    def check_alive(self) -> None:
        """Check that every process still runs.

        :raises EmbeddedAirflowError: naming the one that ended, with the end of its log.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self._log(name)
                raise EmbeddedAirflowError(f"{name} ended with status {process.returncode}:\n{log.read_text()[-3000:]}")

    def _log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def _spawn(self, name: str) -> None:
        with self._log(name).open("wb") as log:
            command = [sys.executable, "-m", "airflow", name, *_OPTIONS.get(name, ())]
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._processes[name] = subprocess.Popen(command, env=self.environment(), start_new_session=True, **streams)

    def _await_api(self) -> None:
        end = time.monotonic() + _START_SECONDS
        # The API server builds its API for tasks at the first request for it. That takes a busy machine a minute, and
        # the supervisor of the first task would give up before. So it is built now, while the scheduler comes up.
        tasks = threading.Thread(target=_build_task_api, args=(self.url, end), daemon=True)
        while time.monotonic() < end:
            self.check_alive()
            status = _scheduler_status(self.url)
            if status is not None and tasks.ident is None:
                tasks.start()
            if status == "healthy" and not tasks.is_alive():
                return
            time.sleep(0.2)
        raise EmbeddedAirflowError(f"Airflow did not come up within {_START_SECONDS} s; see {self.home}.")


_OPTIONS = {"scheduler": ("--skip-serve-logs",), "triggerer": ("--skip-serve-logs",)}
"""All processes see the log files; the servers of logs would listen on all interfaces."""


def _scheduler_status(url: str) -> str | None:
    """Return what the API server says of the scheduler, empty if it knows nothing yet; None if it does not answer."""
    try:
        health = httpx.get(f"{url}/api/v2/monitor/health", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return None
    return str(health.json()["scheduler"]["status"] or "") if health.is_success else ""


def _build_task_api(url: str, end: float) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"{url}/execution/health", timeout=max(1, end - time.monotonic()), trust_env=False)


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can enter.

    :raises EmbeddedAirflowError: if it belongs to another user.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.geteuid():
        raise EmbeddedAirflowError(
            f"the folder {folder} belongs to another user.", hint="Give a folder of your own, e.g. with `--home`."
        )
    folder.chmod(0o700)


def _private_file(path: Path, content: Callable[[], str]) -> str:
    """Return the text of a file that only this user can read, making it first if it is missing."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content())
    path.chmod(0o600)
    return path.read_text()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
