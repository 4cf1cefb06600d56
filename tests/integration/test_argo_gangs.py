"""`@parallel` on Argo as JobSets, with JobSet's own controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.argo import Argo
from tests.support.controllers import jobset
from tests.support.kubernetes import Cluster
from tests.support.results import local_artifacts

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.extended]


@pytest.fixture(scope="module")
def with_jobset(argo: Argo, cluster: Cluster) -> Iterator[Argo]:
    jobset(cluster)
    yield argo
    argo.clean()


def test_a_jobset_produces_the_artifacts_of_a_local_run(with_jobset: Argo, flows: Path) -> None:
    with_jobset.create(flows / "parallel.py", "--gang", "jobset", name="parallel-sets")
    run = with_jobset.start("parallel-sets", "ParallelFlow")
    run.wait(timeout=600)
    assert run.artifacts() == local_artifacts(flows / "parallel.py", run.flow)
    made = with_jobset.cluster.get("jobsets")
    assert sorted(one["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"] for one in made) == [2, 2, 3]


def test_a_jobset_fails_as_one_with_its_workflow(with_jobset: Argo, flows: Path) -> None:
    with_jobset.create(flows / "containers/broken_gang.py", "--gang", "jobset", name="broken-sets")
    run = with_jobset.start("broken-sets", "BrokenGangFlow")
    run.wait(timeout=300, expect="Failed")
    (made,) = [one for one in with_jobset.cluster.get("jobsets") if one["metadata"]["name"].startswith("broken-sets")]
    assert made["status"]["terminalState"] == "Failed"


def test_a_terminated_run_ends_its_jobset_at_once(with_jobset: Argo, flows: Path) -> None:
    flow = flows / "containers/patient_gang.py"
    with_jobset.create(flow, "--gang", "jobset", name="patient-sets")
    run = with_jobset.start("patient-sets", "PatientGangFlow")
    with_jobset.wait_until(lambda: run.has("started-0") and run.has("started-1"), timeout=240)
    with_jobset.flow(flow, "--name", "patient-sets", "terminate", run.run_id)
    of_run = ("-l", f"metaflow/argo-workflows-name={run.name}")
    with_jobset.wait_until(lambda: not with_jobset.cluster.get("jobsets", *of_run), timeout=15)
    with_jobset.wait_until(lambda: not with_jobset.cluster.get("pods", *of_run), timeout=60)
