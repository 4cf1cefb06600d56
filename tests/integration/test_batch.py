"""Steps run in AWS Batch jobs: moto's Batch API, with jobs as processes of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.aws.enforcement import ACCOUNT, REGION
from tests.engines.aws.shared import key_of
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.decorated import assert_decorated
from tests.support.documented import documented_policy
from tests.support.metadata_service import metadata_service
from tests.support.object_store import BUCKET, ObjectStore, batch_queue, credentials_of
from tests.support.results import artifacts, local_artifacts
from tests.support.shapes import GRAPH_ONLY, asked_for, shape_parameters

pytestmark = pytest.mark.scheduler

CONNECTION = "batch-of-the-tests"
WORKER, JOBS = (f"arn:aws:iam::{ACCOUNT}:role/{one}" for one in ("airflow", "jobs"))


@pytest.fixture(scope="module")
def jobs(airflow: SharedAirflow, store: ObjectStore) -> Iterator[dict[str, str]]:
    """What makes Metaflow use the store, the queue and a metadata service, by which the nodes of a gang wait."""
    queue = batch_queue(store, "EC2")
    where = {"REGION": REGION, "ACCOUNT": ACCOUNT, "QUEUE": queue["METAFLOW_BATCH_JOB_QUEUE"], "BUCKET": BUCKET}
    worker, of_jobs, trust = (documented_policy(one, **where) for one in ("worker-policy", "jobs-policy", "jobs-trust"))
    store.authority.add(WORKER, [worker])
    store.authority.add(JOBS, [of_jobs], trust)
    airflow.server.client.request(
        "POST",
        "/connections",
        json={
            "connection_id": CONNECTION,
            "conn_type": "aws",
            "login": key_of(WORKER),
            "password": credentials_of(WORKER)["AWS_SECRET_ACCESS_KEY"],
            "extra": json.dumps({"endpoint_url": store.url, "region_name": REGION}),
        },
    )
    with metadata_service("") as service:
        yield {
            **store.environment,
            **queue,
            "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": JOBS,
            "METAFLOW_SERVICE_URL": service.url,
            "METAFLOW_SERVICE_INTERNAL_URL": service.url,
            "METAFLOW_DEFAULT_METADATA": "service",
            "METAFLOW_S3_WORKER_COUNT": "1",
        }


def deploy(
    airflow: SharedAirflow,
    flow_file: Path,
    flow: str,
    jobs: dict[str, str],
    *,
    top: tuple[str, ...] = (),
    **options: object,
) -> str:
    """Deploy a flow, and a DAG of it that knows the connection."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in jobs.items():
            patch.setenv(name, value)
        airflow.create(flow_file, top=top)
    manifest = str(airflow.server.dags / f"{flow}.metaflow.json")
    given = {"aws_conn_id": CONNECTION, "poll_interval": 2, **options}
    name = f"jobs-{flow}"
    airflow.write_dag(
        name,
        '"""A DAG of airflow."""\nfrom airflow_provider_metaflow import MetaflowDag\n'
        f"dag = MetaflowDag({manifest!r}, {name!r}, batch={given!r})\n",
    )
    return name


# The first test here: later ones register definitions of their own.
@pytest.mark.extended
def test_a_wide_foreach_is_one_array_job_and_a_gang_one_multi_node_job(
    airflow: SharedAirflow, store: ObjectStore, jobs: dict[str, str], flows: Path
) -> None:
    name = deploy(airflow, flows / "containers/jobs.py", "JobsFlow", jobs, array_jobs=True)
    run = airflow.start(name, "JobsFlow")
    run.wait(timeout=600)
    found = artifacts(store.root, "JobsFlow", run.run_id, environment=jobs)
    assert found["join"][((), ())]["results"] == [n**2 for n in range(4)]
    # One array for all of them, in one task instance.
    assert len(found["join"][((), ())]["jobs"]) == 1
    assert [index for task, index in run.instances() if task == "square"] == [0]
    assert found["gather"][((), ())]["nodes"] == [(0, 3), (1, 3), (2, 3)]
    definitions = store.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    assert sorted(one["type"] for one in definitions) == ["container", "multinode"]
    assert all("metaflow_" in one["jobDefinitionName"] for one in definitions)


def test_a_job_that_must_not_be_tried_again_fails_at_once_with_its_reason(
    airflow: SharedAirflow, jobs: dict[str, str], flows: Path
) -> None:
    name = deploy(airflow, flows / "containers/failing_job.py", "FailingJobFlow", jobs)
    run = airflow.start(name, "FailingJobFlow")
    run.wait(timeout=300, expect="failed")
    assert run.instances()[("start", -1)].try_number == 1
    assert "failed: Essential container in task exited" in run.log("start")


@pytest.mark.parametrize("ended", [False, pytest.param(True, marks=pytest.mark.extended)], ids=["running", "ended"])
def test_a_worker_that_dies_finds_its_job_again_and_does_not_repeat_it(
    airflow: SharedAirflow, store: ObjectStore, jobs: dict[str, str], flows: Path, ended: bool
) -> None:
    name = deploy(airflow, flows / "containers/patient_job.py", "PatientJobFlow", jobs)
    run = airflow.start(name, "PatientJobFlow")
    airflow.wait_until(lambda: store.has("PatientJobFlow", run.run_id, "started-0"), timeout=120)
    airflow.kill_task(run, "start")
    with airflow.killed("scheduler"):
        if ended:
            store.put("PatientJobFlow", run.run_id, "go")
            airflow.wait_until(lambda: states(store)[run.run_id] == ["SUCCEEDED"], timeout=120)
    if not ended:
        airflow.wait_until(lambda: run.instances()[("start", -1)].try_number == 2, timeout=180)
        store.put("PatientJobFlow", run.run_id, "go")
    run.wait(timeout=300)
    found = artifacts(store.root, "PatientJobFlow", run.run_id, environment=jobs)
    assert found["start"][((), ())]["attempt"] == 0
    assert not store.has("PatientJobFlow", run.run_id, "started-1")
    assert states(store)[run.run_id] == ["SUCCEEDED"]


@pytest.mark.extended
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_a_cleared_task_ends_its_job(
    airflow: SharedAirflow, store: ObjectStore, jobs: dict[str, str], flows: Path, deferrable: bool
) -> None:
    # Airflow 3.3 fails a task whose trigger fires before its scheduler has seen the deferral: not too fast.
    name = deploy(
        airflow, flows / "containers/patient_job.py", "PatientJobFlow", jobs, deferrable=deferrable, poll_interval=10
    )
    run = airflow.start(name, "PatientJobFlow")
    airflow.wait_until(lambda: store.has("PatientJobFlow", run.run_id, "started-0"), timeout=120)
    if deferrable:
        airflow.wait_until(lambda: run.states()["start"] == {"deferred"}, timeout=60)
    run.clear(task_ids=["start"])
    airflow.wait_until(lambda: store.has("PatientJobFlow", run.run_id, "started-1"), timeout=180)
    store.put("PatientJobFlow", run.run_id, "go")
    run.wait(timeout=300)
    assert states(store)[run.run_id] == ["SUCCEEDED", "FAILED"]
    found = artifacts(store.root, "PatientJobFlow", run.run_id, environment=jobs)
    assert found["start"][((), ())]["attempt"] == 1


def states(store: ObjectStore) -> dict[str, list[str]]:
    """Of each Metaflow run, the states of its jobs."""
    batch = store.client("batch")
    queue = batch.describe_job_queues()["jobQueues"][0]["jobQueueName"]
    found: dict[str, list[str]] = {}
    for state in ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"):
        for job in batch.list_jobs(jobQueue=queue, jobStatus=state)["jobSummaryList"]:
            (described,) = batch.describe_jobs(jobs=[job["jobId"]])["jobs"]
            found.setdefault(described["parameters"]["metaflow.run_id"], []).append(state)
    return found


@pytest.fixture(scope="module")
def runs(
    airflow: SharedAirflow, jobs: dict[str, str], flows: Path, request: pytest.FixtureRequest
) -> dict[str, FlowRun]:
    """A run of each shape that is asked for, all at once."""
    wanted = asked_for(request)
    with_batch = ("--with", "batch")
    dags = {flow: deploy(airflow, flows / f"{shape}.py", flow, jobs, top=with_batch) for _, shape, flow, _ in wanted}
    return {name: airflow.start(dags[flow], flow, conf) for name, _, flow, conf in wanted}


@pytest.mark.parametrize(
    ("name", "shape", "conf"),
    # A job runs one task, whatever the graph; the gang has run above.
    shape_parameters(*GRAPH_ONLY, "parallel"),
)
def test_a_shape_in_jobs_produces_the_artifacts_of_a_local_run(
    store: ObjectStore,
    jobs: dict[str, str],
    runs: dict[str, FlowRun],
    flows: Path,
    name: str,
    shape: str,
    conf: dict[str, object],
) -> None:
    run = runs[name]
    run.wait(timeout=900)
    given = [f"--{key}={value}" for key, value in conf.items()]
    found = artifacts(store.root, run.flow, run.run_id, environment=jobs)
    assert found == local_artifacts(flows / f"{shape}.py", run.flow, *given)


@pytest.mark.extended
def test_retry_catch_environment_and_secrets_are_those_of_a_local_run(
    airflow: SharedAirflow, store: ObjectStore, jobs: dict[str, str], flows: Path
) -> None:
    name = deploy(airflow, flows / "containers/decorated.py", "DecoratedFlow", jobs, top=("--with", "batch"))
    run = airflow.start(name, "DecoratedFlow")
    run.wait(timeout=600)
    assert_decorated(artifacts(store.root, run.flow, run.run_id, environment=jobs))
    assert len(store.cards(run.flow, run.run_id)) == 1
