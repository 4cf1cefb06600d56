"""An Airflow with the CeleryExecutor: Redis, and two workers that are as far from each other as two hosts.

Each worker has a host name, process ids, a home, a folder for temporary files, a cache and a copy of the DAG files of
its own, and sees the folders of neither the other nor the scheduler. They share the network: the broker, Airflow's API
server and an object store. When its first process is killed, everything on the host is, as when a machine fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from .airflow import FlowRun, SharedAirflow, shared_airflow
from .environment import environment_variable
from .object_store import BUCKET, ObjectStore
from .patience import wait_until
from .redis_server import Redis, redis_server
from .results import Results, artifacts

SLOTS = 3
"""How many tasks a worker runs at a time: six that wait are three on each."""

IDLE_SECONDS = 20
"""How long the warm process of a worker stays without a task."""

_HOST = """
hostname "$1"; shift
while [ "$1" != -- ]; do mount -t tmpfs none "$1"; shift; done; shift
exec "$@"
"""
"""What a host does first: it takes its name, and hides the folders of others."""


@dataclass
class Worker:
    """A Celery worker on a host of its own.

    :param name: of the host.
    :param folder: all that it has.
    :param queues: which it takes tasks from.
    """

    name: str
    folder: Path
    queues: tuple[str, ...]
    _started: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def dags(self) -> Path:
        return self.folder / "dags"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """Return its variables.

        :param base: those of the scheduler.
        """
        own = {
            "HOME": "home",
            "TMPDIR": "tmp",
            "METAFLOW_HOME": "metaflow",
            "AIRFLOW_HOME": "airflow",
            "AIRFLOW__CORE__DAGS_FOLDER": "dags",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": "logs",
            "AIRFLOW__METAFLOW__CACHE_FOLDER": "cache",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": "bundles",
        }
        folders = {variable: str(self.folder / name) for variable, name in own.items()}
        return {**base, **folders, "USER": f"user-of-{self.name}"}

    def start(self, base: dict[str, str], hidden: list[Path]) -> None:
        """Start it, and wait until it takes tasks."""
        for name in ("home", "tmp", "metaflow", "airflow", "dags", "work"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        celery = ["-m", "airflow", "celery", "worker", "--queues", ",".join(self.queues), "--concurrency", str(SLOTS)]
        namespaces = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", _HOST, "host"]
        command = [*namespaces, self.name, *map(str, hidden), "--", sys.executable, *celery, "--skip-serve-logs"]
        before = len(self.log())
        with (self.folder / "worker.log").open("ab") as log:
            self._started = subprocess.Popen(
                command, env=self.environment(base), cwd=self.folder / "work", stdout=log, stderr=log
            )

        def is_ready() -> bool:
            assert self._started is not None
            assert self._started.poll() is None, self.log()[-3000:]
            return "ready." in self.log()[before:]

        wait_until(is_ready, timeout=120, pause=0.2)

    def log(self) -> str:
        file = self.folder / "worker.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def processes(self) -> dict[int, str]:
        """Return what runs on the host: titles by id."""
        found: dict[int, str] = {}
        if self._started is None:
            return found
        with suppress(OSError):
            own = Path(f"/proc/{self._main}/ns/pid").readlink()
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    # What has ended and is not waited for has no title.
                    if title and (folder / "ns/pid").readlink() == own:
                        found[int(folder.name)] = title
        return found

    @property
    def _main(self) -> int:
        """Id of the first process of the host, which is Celery's."""
        assert self._started is not None
        children = Path(f"/proc/{self._started.pid}/task/{self._started.pid}/children").read_text().split()
        return int(children[0]) if children else self._started.pid

    def kill(self) -> None:
        """Switch the host off."""
        if self._started is not None:
            with suppress(OSError):
                os.kill(self._main, signal.SIGKILL)
            self._started.wait()
            self._started = None

    def terminate(self) -> None:
        """Ask Celery to end once its tasks have ended."""
        os.kill(self._main, signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended."""
        assert self._started is not None
        self._started.wait(120)
        self._started = None


@dataclass
class CeleryAirflow:
    """The Airflow, its broker and its workers."""

    airflow: SharedAirflow
    store: ObjectStore
    broker: Redis
    workers: dict[str, Worker]

    def deploy(self, files: dict[str, str]) -> None:
        """Put files into the DAG folder of each host, as a sync of a repository does.

        :param files: their text by path; DAG files come last.
        """
        for folder in [*(worker.dags for worker in self.workers.values()), self.airflow.server.dags]:
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def start(self, name: str) -> None:
        """Start a worker."""
        others = [worker.folder for other, worker in self.workers.items() if other != name]
        base = self.airflow.server.environment()
        self.workers[name].start(base, [self.airflow.server.home, *others])

    def artifacts(self, run: FlowRun) -> Results:
        return artifacts(self.store.root, run.flow, run.run_id, environment=self.store.environment)

    def places(self, run: FlowRun) -> dict[tuple[str, int], tuple[str, str]]:
        """Return queue and host of each task instance of a run that has had a process."""
        path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id)}/taskInstances"
        found = self.airflow.server.client.request("GET", path, params={"limit": 100})["task_instances"]
        return {(one["task_id"], one["map_index"]): (one["queue"], one["hostname"]) for one in found if one["hostname"]}


@contextmanager
def celery_airflow(store: ObjectStore, **more: str) -> Iterator[CeleryAirflow]:
    """Start Redis, Airflow and the workers `one` and `two`, each with the queue of its name and the default one."""
    root = Path(tempfile.mkdtemp(prefix="metaflow-celery-", dir="/tmp"))
    settings = {
        "CORE__EXECUTOR": "CeleryExecutor",
        # A worker whose cache is empty starts Metaflow to read a DAG file; six at once do so on a busy machine.
        "CORE__DAGBAG_IMPORT_TIMEOUT": "180",
        # The API server finds the logs of all hosts there.
        "LOGGING__REMOTE_LOGGING": "True",
        "LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{BUCKET}/logs",
        "LOGGING__REMOTE_LOG_CONN_ID": "logs",
        "METAFLOW__WARM_PROCESS_IDLE_SECONDS": str(IDLE_SECONDS),
        **more,
    }
    connection = f"aws:///?endpoint_url={quote(store.url, safe='')}&region_name=us-east-1"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        broker = stack.enter_context(redis_server(root / "broker"))
        settings["CELERY__BROKER_URL"] = broker.url
        for name, value in {**store.environment, "AIRFLOW_CONN_LOGS": connection}.items():
            stack.enter_context(environment_variable(name, value))
        airflow = stack.enter_context(shared_airflow(root / "scheduler", fixture="celery", **settings))
        workers = {name: Worker(name, root / name, (name, "default")) for name in ("one", "two")}
        started = CeleryAirflow(airflow, store, broker, workers)
        for worker in workers.values():
            worker.folder.mkdir()
        for name, worker in workers.items():
            stack.callback(worker.kill)
            started.start(name)
        yield started


DAG_FILE = '''"""A DAG of airflow."""
from airflow_provider_metaflow import FlowTranslator, MetaflowDag


class Alternately(FlowTranslator):
    def queue(self, context):
        return ("one", "two")[context.flow.steps.index(context.step) % 2]


dag = MetaflowDag({path!r}, translator=Alternately(), step_overrides={overrides!r})
'''


def deploy(celery: CeleryAirflow, file: Path, **overrides: dict[str, str]) -> None:
    """Deploy a flow file, which is compiled from there."""
    dag = DAG_FILE.format(path=f"flows/{file.name}", overrides=overrides)
    celery.deploy({f"flows/{file.name}": file.read_text(), f"{file.stem}_dag.py": dag})
