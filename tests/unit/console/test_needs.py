"""What DAGs ask of an Airflow is looked for before a task waits for it for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_api import AirflowApi, airflow_api

from airflow_provider_metaflow.console import needs
from airflow_provider_metaflow.console.doctor import examine
from airflow_provider_metaflow.console.findings import Finding
from airflow_provider_metaflow.console.validate import validate_folder
from airflow_provider_metaflow.deploy.dag_file import unreachable_datastore, write
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest

Recorded = Callable[[str], Manifest]

DAG_FILE = """
from airflow.sdk import DAG
from airflow_provider_metaflow import MetaflowDag, MetaflowTaskGroup

dag = MetaflowDag({manifest!r}, "alone", pool="ml", step_overrides={{"middle": {{"pool": "gpu", "pool_slots": 4}}}})

with DAG("nightly"):
    MetaflowTaskGroup({manifest!r}, kubernetes={{"kubernetes_conn_id": "k8s_ml"}}, compute="kubernetes", pool="wide")
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowApi]:
    with airflow_api() as served:
        monkeypatch.setenv("METAFLOW_AIRFLOW_URL", served.url)
        yield served


@pytest.fixture
def dags(recorded: Recorded, tmp_path: Path) -> Path:
    """A folder with a deployment and a DAG file of a user."""
    folder = tmp_path / "dags"
    folder.mkdir()
    list(write(folder / "LinearFlow.py", recorded("linear")))
    (folder / "mine.py").write_text(DAG_FILE.format(manifest="LinearFlow.metaflow.json"))
    return folder


def _errors(findings: list[Finding]) -> dict[str, str]:
    return {one.text: one.subject for one in findings if one.is_error and "code package" not in one.text}


def test_validate_reports_pools_that_a_dag_file_names_and_airflow_does_not_have(api: AirflowApi, dags: Path) -> None:
    api.pools["ml"] = {"name": "ml", "slots": 8}
    errors = _errors(validate_folder(dags))
    assert errors["the pool gpu is missing, so its tasks wait for ever"] == "alone.middle"
    assert not [text for text in errors if "pool ml" in text]


def test_validate_reports_a_task_that_takes_more_slots_than_its_pool_has(api: AirflowApi, dags: Path) -> None:
    for pool in ("ml", "wide"):
        api.pools[pool] = {"name": pool, "slots": 1}
    api.pools["gpu"] = {"name": "gpu", "slots": 3}
    errors = _errors(validate_folder(dags))
    assert "the pool gpu has 3 slots and a task takes 4, so it waits for ever" in errors
    api.pools["gpu"]["slots"] = -1
    assert not [text for text in _errors(validate_folder(dags)) if "pool" in text]


class Task:
    """A task as far as its pool and its connections go."""

    task_id = "t"
    pool, pool_slots = "default_pool", 1
    __module__ = "airflow_provider_metaflow.operators.step"

    def __init__(self, **arguments: Any) -> None:
        self.__dict__.update(arguments)


class Dag:
    dag_id = "d"

    def __init__(self, *tasks: Any) -> None:
        self.tasks = tasks


def test_connections_of_operators_pods_and_jobs_are_looked_for(
    api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = Dag(
        Task(metaflow_conn_id="here"),
        Task(options={"kubernetes_conn_id": "gone"}),
        Task(metaflow_conn_id="metaflow_default", aws_conn_id="{{ var.value.aws }}"),
        Task(aws_conn_id="by_environment"),
    )
    api.connections["here"] = {"connection_id": "here"}
    monkeypatch.setenv("AIRFLOW_CONN_BY_ENVIRONMENT", "aws://")
    found = {one.text: one.state for one in needs.check_needs(needs.needs_of_dag(dag))}
    assert found == {
        "the connection here is there": "ok",
        "the connection gone is missing": "error",
        "the connection by_environment is there": "ok",
    }


def test_a_dag_without_a_flow_is_not_looked_at() -> None:
    class Other(Task):
        __module__ = "airflow.providers.standard.operators.bash"

    assert list(needs.needs_of_dag(Dag(Other(pool="ml")))) == []


def test_without_an_address_the_database_of_the_airflow_here_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow import settings
    from airflow.models.connection import Connection
    from airflow.models.pool import Pool
    from sqlalchemy import create_engine
    from sqlalchemy.orm import scoped_session, sessionmaker

    monkeypatch.delenv("METAFLOW_AIRFLOW_URL", raising=False)
    url = f"sqlite:///{tmp_path}/airflow.db"
    engine = create_engine(url)
    for model in (Pool, Connection):
        model.__table__.create(engine)
    sessions = scoped_session(sessionmaker(bind=engine, expire_on_commit=False))
    monkeypatch.setattr(settings, "SQL_ALCHEMY_CONN", url)
    monkeypatch.setattr(settings, "engine", engine)
    monkeypatch.setattr(settings, "Session", sessions)
    sessions.add(Pool(pool="ml", slots=2, description="", include_deferred=False))
    sessions.commit()
    wanted = [
        needs.Need("pool", "ml", "d", "t"),
        needs.Need("pool", "gpu", "d", "t"),
        needs.Need("connection", "gone", "d", "t"),
    ]
    assert [(one.text, one.state) for one in needs.check_needs(wanted)] == [
        ("the connection gone is missing", "error"),
        ("the pool gpu is missing, so its tasks wait for ever", "error"),
        ("the pool ml is there", "ok"),
    ]


def test_where_nothing_can_be_asked_a_warning_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from airflow import settings

    monkeypatch.delenv("METAFLOW_AIRFLOW_URL", raising=False)
    monkeypatch.setattr(settings, "SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/none.db")
    (finding,) = needs.check_needs([needs.Need("pool", "ml", "d", "t")])
    assert (finding.state, finding.text[:47]) == ("warning", "1 pools and connections could not be looked for")
    assert not (tmp_path / "none.db").exists()


def test_doctor_reports_what_keeps_the_dags_of_this_airflow_from_running(
    api: AirflowApi, dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(dags))
    errors = _errors(examine())
    assert "the pool ml is missing, so its tasks wait for ever" in errors


def test_doctor_finds_a_local_datastore_before_a_remote_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_AIRFLOW_PATIENCE", "1")
    for url, wrong in (("http://airflow.invalid:9", True), ("http://127.0.0.1:9", False)):
        monkeypatch.setenv("METAFLOW_AIRFLOW_URL", url)
        subjects = {one.subject for one in examine() if one.is_error}
        assert ("Datastore of a remote Airflow" in subjects) == wrong


@pytest.mark.parametrize(
    ("target", "url", "warned"),
    [
        ("dags/flow.py", None, False),
        ("dags/flow.py", "http://localhost:8080", False),
        ("dags/flow.py", "https://airflow.example.com", True),
        ("s3://bucket/dags/flow.py", None, True),
    ],
)
def test_a_local_datastore_and_a_remote_airflow_are_a_warning_of_create(
    recorded: Recorded, target: str, url: str | None, warned: bool
) -> None:
    from pathlib import PurePosixPath

    from msgspec.structs import replace

    manifest = recorded("linear")
    on_s3, local = manifest, replace(manifest, code=replace(manifest.code, datastore="local"))
    where: Any = PurePosixPath(target) if "://" in target else Path(target)
    assert (unreachable_datastore(local, where, url) is not None) == warned
    assert unreachable_datastore(on_s3, where, url) is None


def test_a_datastore_that_is_not_on_this_machine_is_a_warning_of_the_dag(
    recorded: Recorded, dags: Path, tmp_path: Path
) -> None:
    import warnings

    from msgspec.structs import replace

    from airflow_provider_metaflow import MetaflowDag

    manifest, file = recorded("linear"), dags / "LinearFlow.metaflow.json"
    for root, warned in ((tmp_path / "gone", True), (tmp_path, False)):
        local = replace(
            manifest,
            code=replace(manifest.code, datastore="local"),
            command=replace(manifest.command, datastore_root=str(root)),
        )
        file.write_bytes(encode_manifest(local))
        with warnings.catch_warnings(record=True) as caught:
            MetaflowDag(file, f"one_{warned}")
        assert any("is not on this machine" in str(one.message) for one in caught) == warned


@pytest.mark.subprocess
def test_runs_that_would_be_kept_beside_the_flow_file_are_a_warning_of_the_dag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    import warnings

    from airflow_provider_metaflow import MetaflowDag

    flow = Path(__file__).parents[2] / "flows/linear.py"
    for root in (None, tmp_path / "elsewhere"):
        folder = tmp_path / f"flows-{root is None}"
        folder.mkdir()
        shutil.copy(flow, folder)
        monkeypatch.delenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", raising=False)
        if root is not None:
            root.mkdir()
            monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root))
        with warnings.catch_warnings(record=True) as caught:
            MetaflowDag(folder / "linear.py", f"kept_{root is None}")
        told = [str(one.message) for one in caught if "beside the flow file" in str(one.message)]
        assert len(told) == (root is None)
        assert root is not None or str(folder / ".metaflow") in told[0]
