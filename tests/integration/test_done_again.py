"""What is done again on a real scheduler does the work again: runs, clears, redeployments, joins without XComs."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.results import Results, artifacts

from airflow_provider_metaflow.rest import dags

pytestmark = pytest.mark.scheduler


@pytest.fixture(scope="module")
def deployed(airflow: SharedAirflow, flows: Path) -> str:
    airflow.create(flows / "again.py")
    return "AgainFlow"


def start(airflow: SharedAirflow, folder: Path, *, hold: bool = False, **options: str) -> FlowRun:
    if hold:
        (folder / "hold").touch()
    conf = {"folder": str(folder), **({"text": options.pop("text")} if "text" in options else {})}
    return airflow.start("AgainFlow", "AgainFlow", conf, run_id=options.get("run_id"))


def attempts(folder: Path) -> list[str]:
    notes = folder / "notes"
    return notes.read_text().split() if notes.exists() else []


def reports(airflow: SharedAirflow, dag_id: str, run_id: str) -> int:
    """Return how many tasks of a run the executor has reported to the scheduler."""
    text = (airflow.server.home / "scheduler.log").read_text(errors="replace")
    return len(re.findall(rf"Received executor event .*dag_id='{dag_id}'.*run_id='{run_id}'", text))


def results(run: FlowRun, number: int = 1) -> Results:
    """Return the artifacts of the Metaflow run that one of several DAG runs of one id has had."""
    return artifacts(run.airflow.sysroot, run.flow, run.run_id if number == 1 else f"{run.run_id}-{number}")


def test_a_dag_run_that_is_deleted_and_made_again_computes_with_its_own_parameters(
    airflow: SharedAirflow, deployed: str, tmp_path: Path
) -> None:
    first = start(airflow, tmp_path, run_id="same", text="first")
    first.wait()
    # The executor's late report of a task that was deleted counts for the one that is made again under its key.
    airflow.wait_until(lambda: reports(airflow, "AgainFlow", "same") == 3)
    airflow.server.client.request("DELETE", f"/dags/AgainFlow/dagRuns/{quote(first.dag_run_id)}")
    second = start(airflow, tmp_path, run_id="same", text="second")
    second.wait()
    assert results(second, 2)["end"][((), ())]["result"] == "second"
    assert results(first)["end"][((), ())]["result"] == "first"
    # The page and the links find the new one.
    path = f"/dags/AgainFlow/dagRuns/{quote(second.dag_run_id)}/taskInstances/start/xcomEntries/metaflow_run"
    assert airflow.server.client.request("GET", path)["value"] == f"{second.run_id}-2"


def test_a_task_that_is_cleared_while_it_runs_runs_its_code_again_and_not_its_fallback(
    airflow: SharedAirflow, deployed: str, tmp_path: Path
) -> None:
    run = start(airflow, tmp_path, hold=True)
    airflow.wait_until(lambda: attempts(tmp_path) == ["0"])
    run.clear(task_ids=["work"])
    airflow.wait_until(lambda: attempts(tmp_path) == ["0", "1"], timeout=120)
    (tmp_path / "hold").unlink()
    run.wait()
    found = results(run)
    assert found["work"][((), ())]["worked"] == "a"
    assert found["work"][((), ())].get("problem") is None


def deployed_meanwhile(
    airflow: SharedAirflow, source: Path, text: str, change: Callable[[str], str], deploy: Callable[[Path], object]
) -> FlowRun:
    """Return a run whose middle step was held while its flow was deployed again; it goes on now.

    :param source: the flow file, named after the flow.
    :param text: the flow.
    :param change: makes the flow that is deployed then.
    :param deploy: deploys the file.
    """
    flow, hold = source.stem, source.parent / "hold"
    text = text.replace("AgainFlow", flow)
    source.write_text(text)
    deploy(source)
    hold.touch()
    run = airflow.start(flow, flow, {"folder": str(source.parent)})
    airflow.wait_until(lambda: attempts(source.parent) == ["0"])
    source.write_text(change(text))
    with airflow.parsed_again(flow):
        deploy(source)
    hold.unlink()
    return run


@pytest.fixture(scope="module")
def text(flows: Path) -> str:
    return (flows / "again.py").read_text()


@pytest.mark.extended
def test_a_run_goes_on_with_the_variables_that_it_began_with(airflow: SharedAirflow, text: str, tmp_path: Path) -> None:
    run = deployed_meanwhile(
        airflow,
        tmp_path / "KeptFlow.py",
        text,
        lambda text: text.replace('"first"', '"second"'),
        lambda source: airflow.create(source, name="KeptFlow"),
    )
    run.wait()
    assert run.artifacts()["end"][((), ())]["mode"] == "first"
    run.clear()
    run.wait()
    assert run.artifacts()["end"][((), ())]["mode"] == "second"


def with_another_step(text: str) -> str:
    """Return the flow with a step between its middle and its end."""
    more = "        self.next(self.extra)\n\n    @step\n    def extra(self):\n        self.extra_ran = True\n"
    before, after = text.split("        self.worked = self.text\n")
    return f"{before}        self.worked = self.text\n{more}{after}"


def test_another_graph_in_the_middle_of_a_run_fails_it_until_the_whole_run_is_cleared(
    airflow: SharedAirflow, text: str, tmp_path: Path
) -> None:
    run = deployed_meanwhile(
        airflow,
        tmp_path / "LongerFlow.py",
        text,
        with_another_step,
        lambda source: airflow.create(source, name="LongerFlow"),
    )
    run.wait(expect="failed")
    failed = [name for name, states in run.states().items() if "failed" in states]
    assert failed
    assert "began with another graph of the flow" in run.log(failed[0])
    assert run.states()["end"] != {"skipped"}
    run.clear(run_on_latest_version=True)
    run.wait()
    assert run.artifacts()["end"][((), ())]["extra_ran"] is True


def test_a_run_of_a_versioned_bundle_stays_on_the_graph_that_it_began_with(
    airflow: SharedAirflow, text: str, tmp_path: Path
) -> None:
    def deploy(source: Path) -> None:
        file = airflow.create(source, name="VersionedFlow", folder=airflow.versioned.folder)
        # Git leaves files alone that are the same, and this Airflow reads those again after ten minutes only.
        file.write_text(f"{file.read_text()}# The version of {source.stat().st_mtime_ns}.\n")
        airflow.versioned.commit()

    run = deployed_meanwhile(airflow, tmp_path / "VersionedFlow.py", text, with_another_step, deploy)
    run.wait()
    assert set(run.states()) == {"start", "work", "end"}
    again = airflow.start("VersionedFlow", "VersionedFlow", {"folder": str(tmp_path)})
    again.wait()
    assert again.artifacts()["end"][((), ())]["extra_ran"] is True


MAPPED_DAG = """
from airflow.sdk import DAG, task_group
from airflow_provider_metaflow import MetaflowTaskGroup

with DAG("mapped", schedule=None):

    @task_group
    def one(text):
        MetaflowTaskGroup({manifest!r}, group_id="flow", parameters={{"folder": {folder!r}, "text": text}})

    one.expand(text=["x", "y", "z"])
"""


def test_a_flow_in_a_mapped_task_group_runs_once_for_each_instance(
    airflow: SharedAirflow, deployed: str, tmp_path: Path
) -> None:
    manifest = str(airflow.server.dags / "AgainFlow.metaflow.json")
    airflow.write_dag("mapped", MAPPED_DAG.format(manifest=manifest, folder=str(tmp_path)))
    run = airflow.start("mapped", "AgainFlow")
    run.wait()
    pulled = [
        airflow.server.client.request(
            "GET",
            f"/dags/mapped/dagRuns/{quote(run.dag_run_id)}/taskInstances/one.flow.end/xcomEntries/return_value"
            f"?map_index={index}",
        )["value"]
        for index in range(3)
    ]
    ids = [str(one).strip('"').partition("/")[2] for one in pulled]
    assert len(set(ids)) == 3
    found = [artifacts(airflow.sysroot, "AgainFlow", one)["end"][((), ())]["result"] for one in ids]
    assert found == ["x", "y", "z"]


@pytest.mark.extended
def test_a_join_that_is_cleared_after_the_database_was_cleaned_finds_its_inputs(
    airflow: SharedAirflow, flows: Path, tmp_path: Path
) -> None:
    airflow.create(flows / "nested_foreach.py")
    run = airflow.start("NestedForeachFlow", "NestedForeachFlow")
    run.wait()
    before = run.artifacts()
    clean_xcoms(airflow)
    for step in ("outer_join", "inner_join", "work"):
        run.clear(task_ids=[step], include_downstream=step == "work")
        run.wait()
    assert run.artifacts() == before


def clean_xcoms(airflow: SharedAirflow) -> None:
    """Delete all XComs, as administrators do."""
    later = datetime.now(timezone.utc) + timedelta(days=1)
    airflow.server.run(
        "db", "clean", "--tables", "xcom", "--skip-archive", "--yes", "--clean-before-timestamp", later.isoformat()
    )


def test_with_fewer_tries_than_a_fallback_needs_the_users_code_runs(
    airflow: SharedAirflow, deployed: str, tmp_path: Path
) -> None:
    """The fallback of `@catch` was the first try, and the run succeeded without the step's code."""
    manifest = str(airflow.server.dags / "AgainFlow.metaflow.json")
    airflow.write_dag(
        "fewer_tries",
        '"""A DAG of airflow."""\nfrom airflow_provider_metaflow import MetaflowDag\n'
        f'dag = MetaflowDag({manifest!r}, "fewer_tries", step_overrides={{"work": {{"retries": 0}}}})\n',
    )
    run = airflow.start("fewer_tries", "AgainFlow", {"folder": str(tmp_path)})
    run.wait()
    assert attempts(tmp_path) == ["0"]
    found = results(run)["work"][((), ())]
    assert (found["worked"], found.get("problem")) == ("a", None)


def test_a_second_dag_file_with_the_dag_id_of_another_is_refused_by_name(
    airflow: SharedAirflow, deployed: str, tmp_path: Path
) -> None:
    """The one that was parsed last was run, under the name of both."""
    manifest = str(airflow.server.dags / "AgainFlow.metaflow.json")
    airflow.write_dag(
        "second_file",
        '"""A DAG of airflow."""\nfrom airflow_provider_metaflow import MetaflowDag\n'
        f'dag = MetaflowDag({manifest!r}, "AgainFlow")\n',
    )
    client = airflow.server.client
    airflow.wait_until(lambda: "second_file.py" in dags.import_errors(client))
    assert "is made by another DAG file, too" in dags.import_errors(client)["second_file.py"]
    (airflow.server.dags / "second_file.py").unlink()
    run = start(airflow, tmp_path)
    run.wait()
    assert attempts(tmp_path) == ["0"]
