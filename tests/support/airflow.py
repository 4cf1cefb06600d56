"""The Airflow that the scheduler tests share, and how a test runs a flow on it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow
from airflow_provider_metaflow.rest import dags, runs, task_instances, task_logs
from metaflow_orchestration.graph.identity import airflow_run_id

from .environment import environment_variable
from .idle_servers import stopped_while_idle
from .interpreter import python
from .patience import patient, wait_until
from .postgres import Postgres, postgres
from .results import Results, artifacts
from .versioned_bundle import VersionedBundle, bundle_config


@dataclass
class FlowRun:
    """One run of a flow on the shared Airflow."""

    airflow: SharedAirflow
    flow: str
    dag_id: str
    dag_run_id: str
    id_prefix: str = ""

    @property
    def run_id(self) -> str:
        return airflow_run_id(self.dag_id, self.dag_run_id, self.id_prefix)

    def wait(self, timeout: float = 600, expect: str | None = "success") -> str:
        state = runs.wait_for_run(
            self.airflow.server.client, self.dag_id, self.dag_run_id, timeout=patient(timeout), pause=1
        )
        if expect and state != expect:
            raise AssertionError(f"{self.dag_id} ended as {state}, not {expect}:\n{self.explain()}")
        return state

    def instances(self) -> dict[tuple[str, int], task_instances.TaskInstance]:
        found = task_instances.task_instances(self.airflow.server.client, self.dag_id, self.dag_run_id)
        return {(one.task_id, one.map_index): one for one in found}

    def states(self) -> dict[str, set[str | None]]:
        states: dict[str, set[str | None]] = {}
        for (task_id, _), one in self.instances().items():
            states.setdefault(task_id, set()).add(one.state)
        return states

    def log(self, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        return task_logs.task_log(
            self.airflow.server.client,
            self.dag_id,
            self.dag_run_id,
            task_id,
            try_number=try_number,
            map_index=map_index,
        )

    def artifacts(self) -> Results:
        return artifacts(self.airflow.sysroot, self.flow, self.run_id)

    def clear(self, **body: Any) -> None:
        self.airflow.server.client.request(
            "POST",
            f"/dags/{self.dag_id}/clearTaskInstances",
            json={"dry_run": False, "dag_run_id": self.dag_run_id, "only_failed": False, **body},
        )

    def explain(self) -> str:
        lines = []
        for (task_id, index), one in sorted(self.instances().items()):
            lines.append(f"{task_id}[{index}]: {one.state} (try {one.try_number})")
            if one.state in ("failed", "up_for_retry"):
                lines.append(self.log(task_id, try_number=max(one.try_number, 1), map_index=index)[-3000:])
        return "\n".join(lines)


@dataclass
class SharedAirflow:
    """The server and the datastore that its flows write to."""

    server: EmbeddedAirflow
    sysroot: Path
    versioned: VersionedBundle
    database: Postgres
    _written: set[str] = field(default_factory=set)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.sysroot)}

    def create(
        self,
        flow_file: Path,
        *arguments: str,
        top: tuple[str, ...] = (),
        name: str | None = None,
        folder: Path | None = None,
    ) -> Path:
        """Deploy a flow with `airflow create`, to Airflow's own folder or another one; return the DAG file."""
        folder = folder or self.server.dags
        result = subprocess.run(
            [
                python(),
                flow_file.name,
                "--no-pylint",
                *top,
                "airflow",
                *(["--name", name] if name else []),
                "create",
                *arguments,
            ],
            cwd=flow_file.parent,
            capture_output=True,
            text=True,
            env={**self.environment(), "METAFLOW_AIRFLOW_DAGS_FOLDER": str(folder)},
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return folder / f"{name or flow_file.stem}.py"

    def write_dag(self, name: str, source: str) -> None:
        path = self.server.dags / f"{name}.py"
        path.write_text(source)

    @contextmanager
    def parsed_again(self, dag_id: str) -> Iterator[None]:
        """Wait, after the body has changed the DAG's file, until the DAG processor has read it."""
        begun = datetime.now(timezone.utc)
        yield

        def parsed() -> bool:
            found = self.server.client.find("dags", dag_id)
            return bool(found) and datetime.fromisoformat(found["last_parsed_time"].replace("Z", "+00:00")) > begun

        self.wait_until(parsed, timeout=60)

    def start(
        self,
        dag_id: str,
        flow: str,
        conf: dict[str, Any] | None = None,
        *,
        run_id: str | None = None,
        id_prefix: str = "",
    ) -> FlowRun:
        dags.wait_for_dag(self.server.client, dag_id)
        dags.set_paused(self.server.client, dag_id, paused=False)
        started = runs.trigger(self.server.client, dag_id, run_id or f"test__{uuid.uuid4()}", conf or {})
        return FlowRun(self, flow, dag_id, started.dag_run_id, id_prefix)

    @contextmanager
    def killed(self, process: str) -> Iterator[None]:
        """Kill one of Airflow's processes, as the kernel does when memory is short, and start it again afterwards."""
        old = self.server._processes[process]
        os.killpg(old.pid, signal.SIGKILL)
        old.wait()
        try:
            yield
        finally:
            self.server._spawn(process)

    def kill_and_restart(self, process: str) -> None:
        with self.killed(process):
            pass

    def kill_task(self, run: FlowRun, task_id: str) -> None:
        """Kill the process of a running task instance, as the kernel does when memory is short."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/{task_id}"
        title = f"airflow worker -- {self.server.client.request('GET', path)['id']}"
        killed = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cmdline").read_bytes().rstrip(b"\0").decode() == title:
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
        assert killed, f"no process has the title {title!r}"

    def wait_until(self, condition: Any, timeout: float = 60) -> None:
        wait_until(condition, timeout, pause=0.5)


@contextmanager
def shared_airflow(
    home: Path,
    *,
    fixture: str = "airflow",
    kind: type[EmbeddedAirflow] = EmbeddedAirflow,
    **more: str,
) -> Iterator[SharedAirflow]:
    """Start the Airflow of a fixture, and end it.

    :param home: its folder.
    :param fixture: name of the fixture: while tests run that do not use it, the servers stand still.
    :param kind: the server's class, e.g. one that listens elsewhere.
    :param more: settings of Airflow's, as ``SECTION__OPTION``.
    """
    shutil.rmtree(home, ignore_errors=True)
    sysroot = home / "datastore"
    sysroot.mkdir(parents=True)
    versioned = VersionedBundle.make(home / "versioned")
    settings = {
        # Tests talk to it without a log-in; those of log-ins start an API server of their own.
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__MAX_MAP_LENGTH": "8",
        "METAFLOW__WARM_PROCESS_IDLE_SECONDS": "30",
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundle_config(versioned),
        # Its default is a folder in /tmp, which all Airflows of a machine share.
        "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "2",
        # A redeployment within half a minute would wait for the next reading of the file.
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        # New and changed files are read at once all the same; with a hundred files a short interval takes a whole core.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        # How fast the tasks of a dead scheduler are taken over, and a dead worker is noticed; five minutes by default.
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        **more,
    }
    with (
        postgres() as database,
        environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(sysroot)),
        kind(home=home, database=database.url, parallelism=8, settings=settings, triggerer=True) as server,
    ):
        with stopped_while_idle(fixture, lambda: [one.pid for one in server._processes.values()]):
            yield SharedAirflow(server, sysroot, versioned, database)
