"""A trial run: what is deployed to the embedded Airflow, what is told while it runs, and what is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_api import AirflowApi, airflow_api

from airflow_provider_metaflow.embedded import airflow as embedded
from airflow_provider_metaflow.embedded import demo, trial
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import Endpoint
from metaflow_orchestration.documents.manifest import Manifest, read_manifest
from metaflow_orchestration.exceptions import MissingExtraError
from metaflow_orchestration.graph.identity import airflow_run_id


class Airflow:
    """In the place of the embedded Airflow: parses what is deployed to it, and ends the run as the test wants."""

    def __init__(self, api: AirflowApi, home: Path, state: str) -> None:
        self.api, self.home, self.state = api, home, state
        self.dags, self.url, self.passwords = home / "dags", api.url, home / "passwords"
        self.commands: list[tuple[str, ...]] = []
        self.stopped = False
        self.client = AirflowClient(Endpoint(url=api.url))
        api.on_request = self._go_on

    def make_folders(self) -> None:
        self.dags.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Airflow:
        # The DAG processor looks at the folder at once, and then after seconds only.
        assert list(self.dags.glob("*.py"))
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped = True

    def run(self, *arguments: str) -> str:
        self.commands.append(arguments)
        return ""

    def _go_on(self, method: str, path: str) -> None:
        for file in self.dags.glob("*.py") if self.dags.exists() else ():
            manifest = read_manifest(file.with_suffix(".metaflow.json"))
            self.api.dags.get(file.stem) or self.api.add_dag(file.stem, is_paused=True)
            for run in self.api.runs[file.stem]:
                if path.endswith("taskInstances") and run["state"] == "queued":
                    run["state"] = self.state
                    for step in manifest.graph.steps:
                        self.api.add_task(run["dag_run_id"], step.name, "success", tries=2)
                    self.api.tasks[run["dag_run_id"]][-1]["state"] = self.state
                    self.api.logs[manifest.graph.end, -1, 2] = "x" * 5000 + "why"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[Airflow]]]:
    """Makes the embedded Airflow one whose runs end in a state; returns those that were started."""
    made: list[Airflow] = []
    with airflow_api() as api:

        def ends(state: str) -> list[Airflow]:
            def embed(home: Path) -> Airflow:
                made.append(Airflow(api, home, state))
                return made[-1]

            monkeypatch.setattr(embedded, "EmbeddedAirflow", embed)
            return made

        yield ends


def test_a_trial_runs_what_would_be_deployed_and_counts_its_work(
    started: Callable[..., list[Airflow]], recorded: Callable[[str], Manifest], tmp_path: Path, capsys: Any
) -> None:
    airflows = started("success")
    manifest = recorded("linear")
    done = trial.run_trial(manifest, {"alpha": 1}, tmp_path)
    (airflow,) = airflows
    (run,) = airflow.api.runs[manifest.deployment.name]
    assert run["conf"] == {"alpha": 1}
    assert airflow.api.dags[manifest.deployment.name]["is_paused"] is False
    assert done.state == "success"
    assert done.pathspec == f"LinearFlow/{airflow_run_id(manifest.deployment.name, run['dag_run_id'])}"
    assert done.rows == tuple((step, 1, 2, 1.5, "success") for step in ("start", "middle", "end"))
    assert airflow.stopped
    output = capsys.readouterr().out
    assert f"Run {done.pathspec}: success" in output.replace("\n", " ")
    assert "middle: 1/1" in output


def test_a_trial_that_fails_shows_the_end_of_the_log_of_what_failed(
    started: Callable[..., list[Airflow]], recorded: Callable[[str], Manifest], tmp_path: Path, capsys: Any
) -> None:
    started("failed")
    assert trial.run_once(recorded("linear"), {}, str(tmp_path)) is False
    output = capsys.readouterr().out
    assert re.search(r"end \[-1\] failed", output)
    assert "why" in output
    assert output.count("x") < 4500
    assert tmp_path.exists()


def test_a_trial_without_a_folder_leaves_none(
    started: Callable[..., list[Airflow]], recorded: Callable[[str], Manifest]
) -> None:
    airflows = started("success")
    assert trial.run_once(recorded("linear"), {}, None) is True
    assert not airflows[0].home.exists()


def test_the_pool_of_a_flow_is_made_in_the_airflow_of_the_trial(
    started: Callable[..., list[Airflow]], recorded: Callable[[str], Manifest], tmp_path: Path
) -> None:
    from msgspec.structs import replace

    airflows = started("success")
    manifest = recorded("linear")
    trial.run_trial(replace(manifest, deployment=replace(manifest.deployment, worker_pool="ml")), {}, tmp_path)
    pools = tmp_path / "dags" / f"{manifest.deployment.name}.pools.json"
    assert airflows[0].commands == [("pools", "import", str(pools))]


def test_what_is_to_be_looked_at_afterwards_is_called_with_the_page_of_the_run_while_airflow_is_up(
    started: Callable[..., list[Airflow]], recorded: Callable[[str], Manifest], tmp_path: Path
) -> None:
    airflows = started("success")
    manifest = recorded("linear")
    visits: list[tuple[str, bool]] = []
    trial.run_trial(manifest, {}, tmp_path, lambda airflow, page: visits.append((page, airflows[0].stopped)))
    name = manifest.deployment.name
    (run,) = airflows[0].api.runs[name]
    assert visits == [(f"{airflows[0].url}/dags/{name}/runs/{run['dag_run_id']}", False)]
    assert airflows[0].stopped


def test_without_airflow_the_extra_is_named(
    recorded: Callable[[str], Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(trial, "version", version)
    with pytest.raises(MissingExtraError, match=r"Airflow is not installed here\. .* pip install .*\[airflow\]"):
        trial.run_once(recorded("linear"), {}, str(tmp_path))


@pytest.mark.parametrize(("state", "code"), [("success", 0), ("failed", 1)])
def test_the_demo_shows_steps_and_artifacts_of_a_run_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, recorded: Callable[[str], Manifest], state: str,
    code: int,
) -> None:  # fmt: skip
    shown: list[object] = []
    rows = (("start", 1, 2, 1.26, "success"),)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEMO_HOME", str(tmp_path / "demo"))
    for name in ("METAFLOW_DATASTORE_SYSROOT_LOCAL", "METAFLOW_HOME"):
        monkeypatch.setenv(name, "put back by the test")
    monkeypatch.setattr(demo, "load_manifest", lambda *_: recorded("linear"))
    monkeypatch.setattr(demo, "run_trial", lambda *_: trial.Trial(state=state, pathspec="F/1", rows=rows))
    monkeypatch.setattr(demo, "_show_artifacts", lambda _, done: shown.append(done.pathspec))
    assert demo.main() == code
    assert "1.3" in capsys.readouterr().out
    assert shown == (["F/1"] if code == 0 else [])


def test_an_open_demo_says_where_the_run_is_and_how_to_log_in_and_stays_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from types import SimpleNamespace

    from rich.console import Console

    class Interrupted:
        def wait(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo.threading, "Event", Interrupted)
    (tmp_path / "passwords").write_text('{"admin": "s3cret"}')
    airflow: Any = SimpleNamespace(passwords=tmp_path / "passwords")
    demo._stay_open(Console())(airflow, "http://127.0.0.1:1/dags/D/runs/r")
    output = capsys.readouterr().out
    assert "The run: http://127.0.0.1:1/dags/D/runs/r" in output
    assert "Log in as admin with the password s3cret" in output
    assert "Ctrl-C" in output


@pytest.mark.parametrize(("value", "stays"), [("1", True), ("", False), ("0", False)])
def test_the_demo_stays_open_if_it_is_asked_to_and_shows_where_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, recorded: Callable[[str], Manifest], value: str,
    stays: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPEN", value)
    monkeypatch.setenv("DEMO_HOME", str(tmp_path / "demo"))
    for name in ("METAFLOW_DATASTORE_SYSROOT_LOCAL", "METAFLOW_HOME"):
        monkeypatch.setenv(name, "put back by the test")
    asked: list[bool] = []

    def run(_manifest: object, _parameters: object, _folder: object, afterwards: object) -> trial.Trial:
        asked.append(afterwards is not None)
        return trial.Trial(state="success", pathspec="F/1", rows=())

    monkeypatch.setattr(demo, "load_manifest", lambda *_: recorded("linear"))
    monkeypatch.setattr(demo, "run_trial", run)
    monkeypatch.setattr(demo, "_show_artifacts", lambda *_: None)
    assert demo.main() == 0
    assert asked == [stays]
    assert "demo/logs" in capsys.readouterr().out.replace("\n", "")
