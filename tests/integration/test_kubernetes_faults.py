"""What takes part in runs whose steps are pods is killed at random moments: each run ends, with the right results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.test_faults import COUNT, SEED, SETTINGS, write
from tests.support.airflow import shared_airflow
from tests.support.fault_runs import Deployed, FaultyRuns, report
from tests.support.faults import planned, restarting
from tests.support.kubernetes import Cluster
from tests.support.kubernetes_faults import POD_KINDS, PodSite
from tests.support.object_store import ObjectStore
from tests.support.patience import wait_until
from tests.support.pods import Pods, pods
from tests.support.results import local_artifacts

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.built_cluster, pytest.mark.extended]

KILLS = 50


@pytest.fixture(scope="module")
def here(
    cluster: Cluster, cluster_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PodSite, Pods]]:
    """An Airflow of this test only, with pods of the cluster, none of which is left at the end."""
    with ExitStack() as stack:
        home = tmp_path_factory.mktemp("pod_faults") / "airflow"
        airflow = stack.enter_context(shared_airflow(home, fixture="here", **SETTINGS))
        started = stack.enter_context(pods(airflow, cluster, cluster_store))
        yield PodSite(airflow, cluster_store, cluster=cluster, flow="FaultsFlow"), started


@pytest.fixture(scope="module")
def deployed(here: tuple[PodSite, Pods], flows: Path) -> list[Deployed]:
    """The flow, once with tasks that wait for their pods and once with tasks that are deferred meanwhile."""
    _, pods = here
    pods.deploy(flows / "faults.py", "--with", "kubernetes")
    for name, deferrable in (("waiting", False), ("deferred", True)):
        pods.write_dag(name, "FaultsFlow", deferrable=deferrable, poll_interval=2)
    return [Deployed(name, "FaultsFlow", True) for name in ("waiting", "deferred")]


@pytest.mark.timeout(5400)
def test_each_run_in_pods_ends_with_each_artifact_once_whatever_is_killed(
    here: tuple[PodSite, Pods], deployed: list[Deployed], flows: Path
) -> None:
    site, pods = here
    kills = int(os.environ.get(COUNT, str(KILLS)))
    seed = int(os.environ.get(SEED) or time.time_ns() % 1_000_000)
    print(f"{SEED}={seed} {COUNT}={kills}")
    began = time.monotonic()
    faulty = FaultyRuns(site, deployed, at_a_time=2)
    faulty.unpause()
    with restarting(site), ThreadPoolExecutor(1) as beside:
        expected = beside.submit(local_artifacts, flows / "faults.py", "FaultsFlow")
        faulty.strike(planned(seed, kills, (1.0, 8.0), 20.0, POD_KINDS))
        faulty.finish(timeout=900)
        figures = report(faulty, seed, began)
        print(json.dumps(figures))
        assert not faulty.failures(expected.result())
        wait_until(lambda: not pods.cluster.get("pods"), timeout=120)
    assert len(faulty.struck) == kills
    if kills >= KILLS:
        write(figures, kills, "tests/integration/test_kubernetes_faults.py", "kubernetes_faults.json")
