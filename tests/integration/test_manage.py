"""Deployments and runs are managed from a laptop: `airflow …` verbs against a real Airflow's REST API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.interpreter import python
from tests.support.resumes import check_resumes
from tests.support.unreliable import unreliable

from airflow_provider_metaflow.rest import dags, runs, task_instances
from airflow_provider_metaflow.rest.client import AirflowClient, NotFoundError
from airflow_provider_metaflow.rest.deployment import Caller, open_deployment
from airflow_provider_metaflow.rest.endpoint import Endpoint
from metaflow_orchestration.exceptions import InvalidOptionError

pytestmark = pytest.mark.scheduler

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(airflow: SharedAirflow, flows: Path) -> Cli:
    """Runs `python FLOW airflow …` as on a laptop that knows the Airflow's address."""

    def run(
        flow: str,
        *arguments: str,
        name: str | None = None,
        ok: bool = True,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        path = flows / flow
        group = ["airflow", *(["--name", name] if name else [])]
        result = subprocess.run(
            [python(), path.name, "--no-pylint", "--quiet", *group, *arguments],
            cwd=path.parent,
            capture_output=True,
            text=True,
            env={
                **airflow.environment(),
                "METAFLOW_AIRFLOW_DAGS_FOLDER": str(airflow.server.dags),
                "METAFLOW_AIRFLOW_URL": airflow.server.url,
                **(environment or {}),
            },
        )
        assert (result.returncode == 0) is ok, result.stdout + result.stderr
        return result

    return run


def started(airflow: SharedAirflow, id_file: Path, dag_id: str, flow: str) -> FlowRun:
    """Return the run whose id `trigger` wrote to a file."""
    run = runs.find_run(airflow.server.client, dag_id, flow, id_file.read_text())
    return FlowRun(airflow, flow, dag_id, run.dag_run_id)


def hangs(folder: Path) -> bool:
    """Whether the run has come to the step that waits until the file `hang` goes."""
    notes = folder / "notes"
    return notes.exists() and "hang pid" in notes.read_text()


def is_killed(airflow: SharedAirflow, folder: Path) -> None:
    """Wait until the process of that step is gone; without its file it would end by itself, and well."""
    (pid,) = [line.split()[2] for line in (folder / "notes").read_text().splitlines() if line.startswith("hang pid")]
    airflow.wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_trigger_waits_for_a_fresh_dag_and_gives_parameters_and_note(
    cli: Cli, airflow: SharedAirflow, tmp_path: Path
) -> None:
    cli("files/parameters.py", "create", "--no-is-paused-upon-creation", name="managed.params")
    notes = tmp_path / "other.txt"
    notes.write_text("from the laptop $HOME")
    id_file = tmp_path / "id"
    given = ["--required", "{{ ds }} `id`", "--number", "7", "--with-dash", "-x", "--notes", str(notes)]
    command = ["--run-id-file", str(id_file), "--note", "why", "--logical-date", "2026-01-31T00:00:00+00:00"]
    cli("files/parameters.py", "trigger", *given, *command, name="managed.params")
    run = started(airflow, id_file, "managed.params", "ParametersFlow")
    found = airflow.server.client.request("GET", f"/dags/managed.params/dagRuns/{run.dag_run_id}")
    assert (found["note"], found["logical_date"]) == ("why", "2026-01-31T00:00:00Z")
    run.wait()
    seen = run.artifacts()["start"][((), ())]["seen"]
    assert (seen["required"], seen["number"], seen["dashed"]) == ("{{ ds }} `id`", 7, "-x")
    assert seen["notes"] == "from the laptop $HOME"
    shown = cli("files/parameters.py", "status", run.run_id, name="managed.params").stdout
    assert f"ParametersFlow/{run.run_id}: SUCCEEDED" in shown
    assert "1/1" in shown
    listed = cli("files/parameters.py", "list-runs", "--succeeded", name="managed.params").stdout
    assert run.run_id in listed
    assert run.run_id not in cli("files/parameters.py", "list-runs", "--failed", name="managed.params").stdout
    logs = cli("files/parameters.py", "logs", run.run_id, "--all", "--step", "end", name="managed.params").stdout
    assert f"Metaflow task ParametersFlow/{run.run_id}/end/t-end" in logs
    assert "managed.params" in cli("files/parameters.py", "list-deployments").stdout


def test_what_airflow_refuses_is_told_in_one_message(cli: Cli, airflow: SharedAirflow) -> None:
    cli("linear.py", "create", "--is-paused-upon-creation", name="managed.paused")
    paused = cli("linear.py", "trigger", name="managed.paused", ok=False)
    assert "is paused" in paused.stderr
    assert "--unpause" in paused.stderr
    assert "Traceback" not in paused.stderr
    unknown = cli("linear.py", "status", "airflow-0", name="managed.paused", ok=False)
    assert "has no run airflow-0" in unknown.stderr
    foreign = cli("linear.py", "status", "OtherFlow/airflow-0", name="managed.paused", ok=False)
    assert "belongs to the flow OtherFlow" in foreign.stderr
    missing = cli("linear.py", "trigger", "--parse-timeout", "1", name="managed.nowhere", ok=False)
    assert "has not parsed the DAG managed.nowhere within 1 s" in missing.stderr
    wrong_flow = cli("foreach.py", "status", "airflow-0", name="managed.paused", ok=False)
    assert "runs the flow LinearFlow" in wrong_flow.stderr
    unreachable = cli(
        "linear.py", "status", "x", name="managed.paused", ok=False,
        environment={"METAFLOW_AIRFLOW_URL": "http://127.0.0.1:9", "METAFLOW_AIRFLOW_PATIENCE": "1"},
    )  # fmt: skip
    assert "cannot be reached" in unreachable.stderr


def test_an_import_error_is_told_by_trigger(cli: Cli, airflow: SharedAirflow) -> None:
    cli("linear.py", "create", name="managed.broken")
    (airflow.server.dags / "managed.broken.py").write_text("from airflow import DAG\nraise ValueError('no such luck')")
    airflow.wait_until(lambda: any("managed.broken" in name for name in dags.import_errors(airflow.server.client)))
    # Airflow knows no DAG of this name yet, or a stale one.
    told = cli("linear.py", "trigger", "--parse-timeout", "15", name="managed.broken", ok=False)
    assert "no such luck" in told.stderr
    (airflow.server.dags / "managed.broken.py").unlink()


def test_a_run_is_suspended_terminated_and_resumed_in_place_by_its_owner_only(
    cli: Cli, airflow: SharedAirflow, tmp_path: Path
) -> None:
    cli("fragile.py", "create", "--no-is-paused-upon-creation", name="managed.fragile")
    (tmp_path / "hang").touch()
    id_file = tmp_path / "id"
    cli("fragile.py", "trigger", "--folder", str(tmp_path), "--run-id-file", str(id_file), name="managed.fragile")
    run = started(airflow, id_file, "managed.fragile", "FragileFlow")
    airflow.wait_until(lambda: hangs(tmp_path), 240)
    busy = cli("fragile.py", "delete", name="managed.fragile", ok=False)
    assert "1 runs of managed.fragile are running" in busy.stderr
    stranger = {"METAFLOW_USER": "stranger", "METAFLOW_HOME": str(tmp_path)}
    refused = cli("fragile.py", "terminate", run.run_id, name="managed.fragile", ok=False, environment=stranger)
    assert "production token is needed" in refused.stderr
    cli("fragile.py", "suspend", run.run_id, name="managed.fragile")
    assert dags.get_dag(airflow.server.client, "managed.fragile").is_paused  # type: ignore[union-attr]
    token = json.loads((airflow.server.dags / "managed.fragile.metaflow.json").read_text())
    token = token["manifest"]["deployment"]["production_token"]
    command = ["unsuspend", run.run_id, "--authorize", token]
    cli("fragile.py", *command, name="managed.fragile", environment=stranger)
    cli("fragile.py", "terminate", run.run_id, name="managed.fragile")
    run.wait(expect="failed")
    is_killed(airflow, tmp_path)
    again = cli("fragile.py", "terminate", run.run_id, name="managed.fragile", ok=False)
    assert "has already ended as FAILED" in again.stderr
    (tmp_path / "hang").unlink()
    # Not a second time: the body's tasks and the join keep what they did.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cli("fragile.py", "resume", run.run_id, "--folder", str(elsewhere), name="managed.fragile")
    airflow.wait_until(lambda: run.wait(expect=None) == "success", 240)
    assert (tmp_path / "notes").read_text().count("start ran") == 1
    # The one step that ran again did so where the other parameter says.
    assert [line.split()[0] for line in (elsewhere / "notes").read_text().splitlines()] == ["hang"]
    # Nor a third time, but for the step that is named and what follows it.
    again = ["resume", run.run_id, "--step-to-rerun", "hang", "--folder", str(elsewhere)]
    cli("fragile.py", *again, name="managed.fragile")
    airflow.wait_until(lambda: run.wait(expect=None) == "success", 240)
    assert [line.split()[0] for line in (elsewhere / "notes").read_text().splitlines()] == ["hang", "hang"]
    cli("fragile.py", "delete", name="managed.fragile")
    assert not list(airflow.server.dags.glob("managed.fragile*"))


def test_a_failed_run_is_resumed_as_a_new_run_that_clones_what_had_finished(
    cli: Cli, airflow: SharedAirflow, tmp_path: Path
) -> None:
    cli("fragile.py", "create", "--no-is-paused-upon-creation", name="managed.origin")
    (tmp_path / "hang").touch()
    id_file = tmp_path / "id"
    cli("fragile.py", "trigger", "--folder", str(tmp_path), "--run-id-file", str(id_file), name="managed.origin")
    origin = started(airflow, id_file, "managed.origin", "FragileFlow")
    airflow.wait_until(lambda: hangs(tmp_path), 240)
    cli("fragile.py", "terminate", origin.run_id, name="managed.origin")
    origin.wait(expect="failed")
    is_killed(airflow, tmp_path)
    # Whoever watches a run that failed sees it by the exit status, and whoever looks at the page, too.
    assert cli("fragile.py", "status", origin.run_id, "--watch", name="managed.origin", ok=False).returncode == 1
    place = f"/metaflow/dags/managed.origin/runs/{quote(origin.dag_run_id, safe='')}"
    assert 'class="state failed">failed<' in httpx.get(airflow.server.url + place).text
    (tmp_path / "hang").unlink()
    before = (tmp_path / "notes").read_text()
    resume = ["resume", "--origin-run-id", origin.run_id, "--run-id-file", str(id_file)]
    cli("fragile.py", *resume, name="managed.origin")
    new = started(airflow, id_file, "managed.origin", "FragileFlow")
    assert new.run_id != origin.run_id
    new.wait()
    added = (tmp_path / "notes").read_text().removeprefix(before)
    assert [line.split()[0] for line in added.splitlines()] == ["hang"]
    assert new.artifacts()["collect"][((), ())]["vs"] == [2 * n for n in range(12)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cli("fragile.py", *resume, "--step-to-rerun", "collect", "--folder", str(elsewhere), name="managed.origin")
    third = started(airflow, id_file, "managed.origin", "FragileFlow")
    third.wait()
    # The steps that ran again did so where the parameter of their own run says.
    added = (elsewhere / "notes").read_text()
    assert [line.split()[0] for line in added.splitlines()].count("collect") == 1
    assert "body" not in {line.split()[0] for line in added.splitlines()}
    assert "collect" not in (tmp_path / "notes").read_text().removeprefix(before)


@pytest.mark.extended
def test_a_run_of_metaflows_own_scheduler_is_resumed_on_airflow(
    cli: Cli, airflow: SharedAirflow, flows: Path, tmp_path: Path
) -> None:
    id_file = tmp_path / "id"
    command = [python(), "resumed.py", "--no-pylint", "--quiet", "run", "--run-id-file", str(id_file)]
    options = ["--alpha=3", "--unlucky=True"]
    failed = subprocess.run([*command, *options], cwd=flows, env=airflow.environment(), capture_output=True, text=True)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    cli("resumed.py", "create", "--no-is-paused-upon-creation", name="managed.local")
    dags.wait_for_dag(airflow.server.client, "managed.local")
    origin = ["--origin-run-id", id_file.read_text().strip()]
    cli("resumed.py", "resume", *origin, "--unlucky=False", "--run-id-file", str(id_file), name="managed.local")
    run = started(airflow, id_file, "managed.local", "ResumedFlow")
    run.wait()
    found = run.artifacts()
    assert found["end"][((), ())]["of_end"] == (3, [10, 20], False, "default", 7)
    assert found["collect"][((), ())]["bodies"] == [(3, 10), (3, 20)]
    # The split that had finished was taken over, not run again.
    assert "clones the result of" in run.log("body", map_index=0)
    assert "clones the result of" not in run.log("body", map_index=1)


def test_a_trigger_whose_answer_is_lost_starts_one_run(cli: Cli, airflow: SharedAirflow, tmp_path: Path) -> None:
    cli("linear.py", "create", "--no-is-paused-upon-creation", name="managed.once")
    dags.wait_for_dag(airflow.server.client, "managed.once")
    with unreliable(airflow.server.url) as proxy, AirflowClient(Endpoint(url=proxy.url)) as client:
        deployed = open_deployment(client, "managed.once")
        planned = deployed.plan_run()
        proxy.faults = ["lost", 503, 429, "refused"]
        run = deployed.start(planned, {})
    assert run.run_id == planned.run_id
    assert [one.run_id for one in runs.list_runs(airflow.server.client, "managed.once")] == [planned.run_id]


def test_an_expired_token_is_renewed_once_and_a_foreign_error_is_told(airflow: SharedAirflow) -> None:
    with unreliable(airflow.server.url) as proxy, AirflowClient(Endpoint(url=proxy.url)) as client:
        assert client.request("GET", "/dags", params={"limit": 1})
        proxy.faults = [401]
        proxy.seen.clear()
        assert client.request("GET", "/dags", params={"limit": 1})
        paths = [seen.split("?")[0] for seen in proxy.seen]
        assert paths == ["GET /api/v2/dags", "GET /auth/token", "GET /api/v2/dags"]
        with pytest.raises(NotFoundError, match="no-such-dag"):
            client.request("GET", "/dags/no-such-dag")


@pytest.mark.extended
def test_a_status_call_takes_a_bounded_number_of_requests(airflow: SharedAirflow, cli: Cli, tmp_path: Path) -> None:
    cli("foreach.py", "create", "--no-is-paused-upon-creation", name="managed.counted")
    dags.wait_for_dag(airflow.server.client, "managed.counted")
    run = airflow.start("managed.counted", "ForeachFlow")
    run.wait()
    with unreliable(airflow.server.url) as proxy, AirflowClient(Endpoint(url=proxy.url)) as client:
        deployed = open_deployment(client, "managed.counted")
        found = deployed.find(run.run_id)
        proxy.seen.clear()
        counts = task_instances.count_states(client, found, deployed.record.steps)
    assert counts["end"] == {"success": 1}
    assert len(proxy.seen) == 1


def test_who_has_neither_deployed_it_nor_the_token_may_not_change_it(airflow: SharedAirflow, cli: Cli) -> None:
    cli("linear.py", "create", name="managed.owned")
    dags.wait_for_dag(airflow.server.client, "managed.owned")
    deployed = open_deployment(airflow.server.client, "managed.owned")
    deployed.authorize(Caller(user="tester", token=None))
    with pytest.raises(InvalidOptionError, match="deployed to Airflow by the user tester"):
        deployed.authorize(Caller(user="other", token="wrong"))


DEPLOYER = """
import sys, os
from metaflow import Deployer, DeployedFlow
name = "managed.api"
deployed = Deployer(sys.argv[1], show_output=False).airflow(name=name).create(
    tags=["api"], is_paused_upon_creation=False)
assert deployed.production_token
run = deployed.trigger(required="x", number=4)
seen = []
while (status := run.status) not in ("SUCCEEDED", "FAILED"):
    seen.append(status)
assert set(seen) <= {None, "PENDING", "RUNNING"}, seen
assert run.status == "SUCCEEDED", run.status
run.wait_for_run(timeout=30)
assert run.run.pathspec == run.pathspec and run.run.successful
assert not run.is_running
print("PATHSPEC", run.pathspec)
"""

WITHOUT_THE_FILE = """
import sys
from metaflow import DeployedFlow
run_id = sys.argv[1].split("/")[1]
flow = DeployedFlow.from_deployment("managed.api", impl="airflow")
assert flow.flow_name == "ParametersFlow"
assert [one.pathspec for one in flow.list_runs()] == [sys.argv[1]]
assert flow.production_token
same = DeployedFlow.get_triggered_run("managed.api", run_id, impl="airflow")
assert same.status == "SUCCEEDED"
try:
    DeployedFlow.get_triggered_run("managed.api", "airflow-unknown", impl="airflow").wait_for_completion(timeout=60)
except TimeoutError:
    raise
except Exception as error:
    assert "airflow-unknown" in str(error), error
else:
    raise SystemExit("a run that Airflow does not know was taken for one that has ended")
assert "managed.api" in [one.name for one in DeployedFlow.list_deployed_flows(impl="airflow")]
again = flow.trigger(required="y", number=5, ratio=0.25, flag=True, config={"a": 1}, notes=sys.argv[2])
again.wait_for_completion(check_interval=1, timeout=200)
assert again.status == "SUCCEEDED"
seen = again.run["start"].task.data.seen
assert (seen["number"], seen["ratio"], seen["flag"], seen["config"]) == (5, 0.25, True, {"a": 1}), seen
assert seen["notes"] == "by path", seen
resumed = flow.resume(origin_run_id=run_id)
resumed.wait_for_completion(check_interval=1, timeout=200)
assert resumed.status == "SUCCEEDED"
second = again.resume(step_to_rerun="start", number=6)
second.wait_for_completion(check_interval=1, timeout=200)
assert second.status == "SUCCEEDED"
seen = second.run["start"].task.data.seen
assert (seen["required"], seen["number"], seen["ratio"], seen["config"]) == ("y", 6, 0.25, {"a": 1}), seen
assert seen["notes"] == "by path", seen
print("OK")
"""


def test_the_deployer_api_deploys_triggers_and_finds_flows_again(
    airflow: SharedAirflow, flows: Path, tmp_path: Path
) -> None:
    environment = {
        **airflow.environment(),
        "METAFLOW_AIRFLOW_DAGS_FOLDER": str(airflow.server.dags),
        "METAFLOW_AIRFLOW_URL": airflow.server.url,
    }

    def script(source: str, *arguments: str, cwd: Path) -> str:
        result = subprocess.run(
            [sys.executable, "-c", source, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    flow = flows / "files" / "parameters.py"
    pathspec = next(
        line.split()[1] for line in script(DEPLOYER, str(flow), cwd=flow.parent).splitlines() if "PATHSPEC" in line
    )
    notes = tmp_path / "notes.txt"
    notes.write_text("by path")
    assert "OK" in script(WITHOUT_THE_FILE, pathspec, str(notes), cwd=tmp_path)


@pytest.mark.extended
def test_runs_are_resumed_by_the_deployer_as_metaflows_own_suite_does_it(airflow: SharedAirflow, flows: Path) -> None:
    environment = {
        **airflow.environment(),
        "METAFLOW_AIRFLOW_DAGS_FOLDER": str(airflow.server.dags),
        "METAFLOW_AIRFLOW_URL": airflow.server.url,
    }
    check_resumes(
        flows / "resumed.py", "airflow", "managed.resumes", environment, '{"is_paused_upon_creation": false}'
    )


@pytest.mark.extended
def test_a_project_branch_is_found_again_by_its_dotted_name(
    airflow: SharedAirflow, flows: Path, tmp_path: Path
) -> None:
    from metaflow import DeployedFlow
    from tests.support.environment import environment_variable

    airflow.create(flows / "project" / "configured.py", top=("--branch", "managed"))
    name = "testproject.test.managed.ConfiguredFlow"
    dags.wait_for_dag(airflow.server.client, name)
    dags.set_paused(airflow.server.client, name, paused=False)
    with (
        environment_variable("METAFLOW_AIRFLOW_URL", airflow.server.url),
        environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(airflow.sysroot)),
    ):
        flow = DeployedFlow.from_deployment(name, impl="airflow")
        run = flow.trigger()
        run.wait_for_completion(check_interval=1, timeout=240)
        assert run.status == "SUCCEEDED"
        assert run.pathspec.startswith("ConfiguredFlow/airflow-")
