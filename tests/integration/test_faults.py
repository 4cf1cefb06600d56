"""What takes part in runs is killed at random moments: each run ends all the same, with the right results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest
from tests.support.airflow import shared_airflow
from tests.support.environment import environment_variable
from tests.support.fault_runs import Deployed, FaultyRuns, remains, report
from tests.support.faults import Site, planned, restarting, small_disk
from tests.support.object_store import ObjectStore
from tests.support.patience import wait_until
from tests.support.results import local_artifacts

pytestmark = [pytest.mark.scheduler]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
SEED, COUNT = "TEST_FAULTS_SEED", "TEST_FAULTS"
"""Variables with the seed and the number of kills; every kind comes up as often as the others."""

MANY = 100
"""From this number on the figures are kept, and what is away stays so for a minute."""

IDLE_SECONDS = 10

SETTINGS = {
    # How fast Airflow notices what has died; it waits for minutes by default.
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "METAFLOW__WARM_PROCESS_IDLE_SECONDS": str(IDLE_SECONDS),
}


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """Folder for the temporary files of the Airflow and its tasks; sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="mf-faults-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def site(store: ObjectStore, temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow of these tests only, which is killed again and again."""
    with ExitStack() as stack:
        stack.enter_context(environment_variable("TMPDIR", str(temporary)))
        for name in ("METAFLOW_DATASTORE_SYSROOT_S3", "METAFLOW_S3_ENDPOINT_URL"):
            stack.enter_context(environment_variable(name, store.environment[name]))
        home = tmp_path_factory.mktemp("faults") / "airflow"
        airflow = stack.enter_context(shared_airflow(home, fixture="site", **SETTINGS))
        stack.enter_context(small_disk(airflow.sysroot, megabytes=200))
        yield Site(airflow, store)


@pytest.fixture(scope="module")
def deployed(site: Site, flows: Path) -> list[Deployed]:
    """The flow on both kinds of datastores."""
    site.airflow.create(flows / "faults.py")
    site.airflow.create(flows / "faults.py", top=("--datastore", "s3"), name="faults-on-s3")
    return [Deployed("FaultsFlow", "FaultsFlow", False), Deployed("faults-on-s3", "FaultsFlow", True)]


@pytest.mark.timeout(5400)
def test_each_run_ends_with_each_artifact_once_whatever_is_killed(
    site: Site,
    deployed: list[Deployed],
    flows: Path,
    temporary: Path,
) -> None:
    kills = int(os.environ.get(COUNT, "10"))
    pauses, longest = ((1.0, 8.0), 10.0) if kills < MANY else ((2.0, 20.0), 60.0)
    seed = int(os.environ.get(SEED) or time.time_ns() % 1_000_000)
    print(f"{SEED}={seed} {COUNT}={kills}")
    began = time.monotonic()
    faulty = FaultyRuns(site, deployed, at_a_time=3)
    faulty.unpause()
    with restarting(site), ThreadPoolExecutor(1) as beside:
        expected = beside.submit(local_artifacts, flows / "faults.py", "FaultsFlow")
        faulty.strike(planned(seed, kills, pauses, longest))
        faulty.finish(timeout=450)
        figures = report(faulty, seed, began)
        print(json.dumps(figures))
        assert not faulty.failures(expected.result())
        with suppress(AssertionError):
            wait_until(lambda: not remains(site, temporary), timeout=3 * IDLE_SECONDS)
        assert not remains(site, temporary)
    assert len(faulty.struck) == kills
    if kills >= MANY:
        write(figures, kills, "tests/integration/test_faults.py", "faults.json")


def write(figures: dict[str, object], kills: int, test: str, file: str) -> None:
    """Keep the figures of a whole run beside those of the benchmarks."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    chosen = f"{COUNT}={kills} {SEED}={figures['seed']}"
    command = f'{chosen} make {"test" if file == "faults.json" else "test-extended"} PYTEST_ARGS="{test}"'
    head = {"command": command, "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "commit": commit}
    (RESULTS / file).write_text(json.dumps({**head, **figures}, indent=1) + "\n")
