"""The embedded Airflow's processes: their environment, and what happens when one of them ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.airflow_api import AirflowApi, airflow_api

from airflow_provider_metaflow.embedded import airflow as embedded
from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow, EmbeddedAirflowError


def test_all_processes_share_one_environment_that_keeps_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAFLOW_USER", raising=False)
    monkeypatch.setenv("USER", "ann")
    one = EmbeddedAirflow(home=tmp_path, parallelism=3, settings={"CORE__PARALLELISM": "9", "API__BASE_URL": "x"})
    found = one.environment()
    assert (found["AIRFLOW_HOME"], found["METAFLOW_USER"]) == (str(tmp_path), "ann")
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow.db"
    # What the caller sets wins.
    assert (found["AIRFLOW__CORE__PARALLELISM"], found["AIRFLOW__API__BASE_URL"]) == ("9", "x")
    assert found["METAFLOW_AIRFLOW_URL"] == one.url
    secret = tmp_path / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert found["AIRFLOW__API__SECRET_KEY"] == secret.read_text()
    assert one.environment() == found
    other = EmbeddedAirflow(home=tmp_path / "other", database="postgresql://x").environment()
    assert other["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql://x"
    assert other["AIRFLOW__API__SECRET_KEY"] != found["AIRFLOW__API__SECRET_KEY"]


def test_its_processes_reach_each_other_without_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "corp.example")
    environment = EmbeddedAirflow(home=tmp_path).environment()
    assert environment["http_proxy"] == "http://proxy.example:3128"
    assert environment["no_proxy"] == environment["NO_PROXY"] == "corp.example,127.0.0.1,localhost"


def test_an_airflow_that_was_not_started_has_no_client(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedAirflowError, match="Airflow is not started"):
        _ = EmbeddedAirflow(home=tmp_path).client


class Processes:
    """Programs in the place of Airflow's: each sleeps, or ends as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends: dict[str, str] = {}
        self.started: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        popen = subprocess.Popen

        def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
            name = command[3]
            self.started.append(name)
            code = self.ends.get(name, "import time; time.sleep(60)")
            return popen([sys.executable, "-c", code], **options)  # type: ignore[call-overload,no-any-return]

        monkeypatch.setattr(embedded.subprocess, "Popen", start)
        monkeypatch.setattr(EmbeddedAirflow, "run", lambda _, *command: self.commands.append(command))
        monkeypatch.setattr(embedded, "_STOP_SECONDS", 2)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that these doubles make may be kept for a real Airflow."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowApi]:
    with airflow_api() as served:
        served.refuse["GET", "/monitor/health"] = [503, (200, {"scheduler": {"status": None}})]
        served.refuse["GET", "/monitor/health"] += [(200, {"scheduler": {"status": "healthy"}})] * 99
        monkeypatch.setattr(embedded, "free_port", lambda: int(served.url.rpartition(":")[2]))
        yield served


@pytest.mark.subprocess
def test_an_airflow_is_up_when_its_scheduler_is_healthy_and_leaves_no_process(
    tmp_path: Path, api: AirflowApi, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    processes = Processes(monkeypatch)
    with EmbeddedAirflow(home=tmp_path, triggerer=True) as one:
        assert processes.commands == [("db", "migrate")]
        assert processes.started == ["api-server", "scheduler", "dag-processor", "triggerer"]
        assert one.client.endpoint.url == one.url
        assert (one.client.endpoint.username, bool(one.client.endpoint.password)) == ("admin", True)
        assert one.dags.is_dir()
        running = list(one._processes.values())
        assert all(process.poll() is None for process in running)
    assert all(process.poll() is not None for process in running)
    assert len(api.paths("GET")) >= 3
    # A first task on a busy machine gave up before the server had built the API for it.
    assert [path for path in api.paths("GET") if path.endswith("/execution/health")] != []
    # Its database was never migrated, and is no start for another.
    assert [path.name for path in cache.rglob("*.db")] == []


@pytest.mark.subprocess
def test_a_process_that_ends_is_told_by_its_name_and_the_end_of_its_log(
    tmp_path: Path, api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes(monkeypatch)
    processes.ends["scheduler"] = "print('no database'); raise SystemExit(3)"
    api.refuse["GET", "/monitor/health"] = [503] * 999
    with pytest.raises(EmbeddedAirflowError, match=r"scheduler ended with status 3:\nno database"):
        with EmbeddedAirflow(home=tmp_path):
            pass


@pytest.mark.subprocess
def test_an_airflow_that_does_not_come_up_is_stopped(
    tmp_path: Path, api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    Processes(monkeypatch)
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.5)
    api.refuse["GET", "/monitor/health"] = [503] * 999
    one = EmbeddedAirflow(home=tmp_path)
    with pytest.raises(EmbeddedAirflowError, match=r"did not come up within 0.5 s"):
        one.__enter__()
    assert one._processes == {}


def test_a_command_that_fails_shows_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code = 0 if command[-1] == "migrate" else 1
        return subprocess.CompletedProcess(command, code, "out", "no such file")

    monkeypatch.setattr(embedded.subprocess, "run", run)
    one = EmbeddedAirflow(home=tmp_path)
    assert one.run("db", "migrate") == "out"
    with pytest.raises(EmbeddedAirflowError, match=r"`airflow pools import x` failed:\noutno such file"):
        one.run("pools", "import", "x")
