"""Flows deployed to S3, which Airflow reads as DAG bundles of two teams, on a real Airflow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, text
from tests.support.airflow import FlowRun, SharedAirflow, shared_airflow
from tests.support.environment import environment_variable
from tests.support.interpreter import python
from tests.support.object_store import BUCKET, ObjectStore
from tests.support.results import Results, artifacts

pytestmark = [pytest.mark.scheduler, pytest.mark.extended]

FLOW = """from metaflow import FlowSpec, step


class SharedNameFlow(FlowSpec):
    @step
    def start(self):
        self.made_by = {team!r}
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SharedNameFlow()
"""


def bundle_of(team: str) -> dict[str, Any]:
    where = {"bucket_name": BUCKET, "prefix": f"dags/{team}", "aws_conn_id": "bundles", "refresh_interval": 2}
    return {"name": team, "classpath": "airflow.providers.amazon.aws.bundles.s3.S3DagBundle", "kwargs": where}


@pytest.fixture(scope="module")
def airflow(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedAirflow]:
    """An Airflow with the bundles of the teams `blue` and `green`, whose folders of DAGs are in S3."""
    for team in ("blue", "green"):
        # Airflow reads no folder of S3 that holds nothing.
        store.client("s3").put_object(Bucket=BUCKET, Key=f"dags/{team}/README", Body=b"DAGs\n")
    bundles = json.dumps([bundle_of("blue"), bundle_of("green")])
    connection = f"aws:///?endpoint_url={quote(store.url, safe='')}&region_name=us-east-1"
    with ExitStack() as stack:
        for name, value in {**store.environment, "AIRFLOW_CONN_BUNDLES": connection}.items():
            stack.enter_context(environment_variable(name, value))
        home = tmp_path_factory.mktemp("bundles") / "airflow"
        settings = {"DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundles, "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "2"}
        yield stack.enter_context(shared_airflow(home, **settings))


def deploy(
    airflow: SharedAirflow, store: ObjectStore, folder: Path, team: str, *, made_by: str, name: str | None = None
) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / "shared_name.py"
    file.write_text(FLOW.format(team=made_by))
    command = [python(), file.name, "--no-pylint", "airflow", *(["--name", name] if name else []), "create"]
    folders = {"METAFLOW_AIRFLOW_DAGS_FOLDER": f"s3://{BUCKET}/dags/{team}", "AWS_ENDPOINT_URL_S3": store.url}
    environment = {**airflow.environment(), **folders}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr


def import_errors(airflow: SharedAirflow) -> list[dict[str, str]]:
    """Return them from the database: the API of Airflow 3.3 hides those of a file whose path another bundle has."""
    engine = create_engine(airflow.database.url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT bundle_name, filename, stacktrace FROM import_error"))
        found = [dict(row._mapping) for row in rows]
    engine.dispose()
    return found


def results(store: ObjectStore, run: FlowRun) -> Results:
    run.wait()
    return artifacts(store.root, run.flow, run.run_id, environment=store.environment)


def test_a_flow_that_is_deployed_to_s3_runs_and_its_next_version_after_it(
    airflow: SharedAirflow, store: ObjectStore, tmp_path: Path
) -> None:
    deploy(airflow, store, tmp_path / "blue", "blue", made_by="blue")
    first = airflow.start("SharedNameFlow", "SharedNameFlow")
    assert results(store, first)["start"][((), ())] == {"made_by": "blue"}
    version = airflow.server.client.request("GET", "/dags/SharedNameFlow/dagVersions")["total_entries"]
    deploy(airflow, store, tmp_path / "blue", "blue", made_by="blue again")
    airflow.wait_until(
        lambda: airflow.server.client.request("GET", "/dags/SharedNameFlow/dagVersions")["total_entries"] > version
    )
    second = airflow.start("SharedNameFlow", "SharedNameFlow")
    assert results(store, second)["start"][((), ())] == {"made_by": "blue again"}


def test_a_flow_of_the_same_name_in_another_bundle_is_an_import_error_until_it_has_a_name_of_its_own(
    airflow: SharedAirflow, store: ObjectStore, tmp_path: Path
) -> None:
    deploy(airflow, store, tmp_path / "blue", "blue", made_by="blue")
    airflow.start("SharedNameFlow", "SharedNameFlow").wait()
    # Another folder with the flow, deployed by who has its token; its manifest stands in another bundle.
    deploy(airflow, store, tmp_path / "green", "green", made_by="green")
    airflow.wait_until(lambda: import_errors(airflow), timeout=120)
    (error,) = import_errors(airflow)
    assert error["bundle_name"] == "green"
    told = "the DAG 'SharedNameFlow' is made by another DAG file, too: SharedNameFlow.py of the bundle blue"
    assert told in error["stacktrace"]
    still = airflow.start("SharedNameFlow", "SharedNameFlow")
    assert results(store, still)["start"][((), ())] == {"made_by": "blue"}
    for key in ("SharedNameFlow.py", "SharedNameFlow.metaflow.json"):
        store.client("s3").delete_object(Bucket=BUCKET, Key=f"dags/green/{key}")
    deploy(airflow, store, tmp_path / "green", "green", made_by="green", name="green.SharedNameFlow")
    own = airflow.start("green.SharedNameFlow", "SharedNameFlow")
    assert results(store, own)["start"][((), ())] == {"made_by": "green"}
    airflow.wait_until(lambda: not import_errors(airflow), timeout=120)
