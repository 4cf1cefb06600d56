"""Steps run in pods of a real Kubernetes, with an Airflow outside of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.kubernetes import NAMESPACE
from tests.support.pods import Pods

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes]


@pytest.mark.extended
def test_steps_run_where_their_decorators_say_and_pods_honour_them(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/mixed.py")
    override = {"spec": {"containers": [{"name": "base", "env": [{"name": "EXTRA", "value": "1"}]}]}}
    # Airflow 3.3 fails a task whose trigger fires before its scheduler has seen the deferral: not too fast.
    pods.write_dag("mixed-deferred", "MixedFlow", deferrable=True, poll_interval=10, pod_override=override)
    greeting = "$(HOME) {{ ti }} `id`"
    for dag_id in ("MixedFlow", "mixed-deferred"):
        run = pods.airflow.start(dag_id, "MixedFlow")
        run.wait(timeout=600)
        found = pods.artifacts(run)
        joined = found["join"][((), ())]
        assert joined["words"] == [f"a{greeting}", f"b{greeting}"]
        assert joined["places"] == ["kubernetes", "kubernetes"]
        assert (joined["colour"], joined["shared_memory"], joined["tempdir"]) == (
            "$(PATH) blue",
            True,
            "/metaflow_temp",
        )
        assert joined["extra"] == ("1" if dag_id == "mixed-deferred" else None)
        assert found["start"][((), ())]["place"] is None
        assert [one["rounds"] for _, one in sorted(found["loop"].items())] == [1, 2]
        # The output of a pod is in Airflow's log, as it is in Metaflow's.
        assert "working on a" in run.log("work", map_index=0)
        for text in (run.log("work", map_index=0), pods.xcoms(run)):
            assert "test-secret" not in text


@pytest.mark.built_cluster
def test_the_address_of_the_pods_gateway_does_not_change_when_pods_come_and_go(pods: Pods) -> None:
    # 3 is NET_ADDR_SET (linux/netdevice.h): an address that was given, and not one that a bridge took from its ports.
    assert Path("/sys/class/net/tkube0/addr_assign_type").read_text().strip() == "3"


@pytest.mark.extended
def test_why_a_pod_failed_is_told(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/troubles.py")
    pods.write_dag("troubles", "TroublesFlow", schedule_timeout_seconds=5)
    run = pods.airflow.start("troubles", "TroublesFlow")
    run.wait(timeout=600, expect="failed")
    told = {step: run.log(step) for step in ("hungry", "homeless", "imageless", "hopeless", "clumsy", "elsewhere")}
    assert "ran out of memory (OOMKilled); its limit is 160" in told["hungry"]
    assert "no node can take its pod (Unschedulable): 0/1 nodes are available" in told["homeless"]
    assert "its image cannot be pulled (ErrImageNeverPull)" in told["imageless"]
    assert "it exited with 202" in told["hopeless"]
    assert "it exited with 1: ValueError: too clumsy" in told["clumsy"]
    assert "forbidden" in told["elsewhere"].lower()
    # Neither is 202 tried again, though the step may be retried twice.
    assert {run.instances()[(step, -1)].try_number for step in told} == {1}


def test_a_gang_fails_as_one_and_names_the_node(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/broken_gang.py")
    run = pods.airflow.start("BrokenGangFlow", "BrokenGangFlow")
    run.wait(timeout=300, expect="failed")
    assert "node 1 of its gang failed: it exited with 1: ValueError: node one is broken" in run.log("train")


@pytest.mark.built_cluster
def test_runs_that_wait_and_runs_that_are_deferred_survive_their_platform(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/patient.py")
    pods.write_dag("survivor-waiting", "PatientFlow", deferrable=False, poll_interval=10)
    pods.write_dag("survivor-deferred", "PatientFlow", deferrable=True, poll_interval=10)
    both = waiting, deferred = [
        pods.airflow.start(name, "PatientFlow") for name in ("survivor-waiting", "survivor-deferred")
    ]
    for run in both:
        pods.airflow.wait_until(lambda run=run: pods.has(run, "started-0"), timeout=180)
    pods.airflow.wait_until(lambda: deferred.states()["start"] == {"deferred"}, timeout=60)
    assert waiting.states()["start"] == {"running"}
    pods.airflow.kill_and_restart("triggerer")
    pods.cluster.restart_api_server()
    with pods.store.outage():
        time.sleep(5)
    for run in both:
        pods.put(run, "go")
    for run in both:
        run.wait(timeout=300)
        assert pods.artifacts(run)["start"][((), ())]["attempt"] == 0
        assert run.instances()[("start", -1)].try_number == 1


def test_a_worker_that_dies_with_all_its_processes_finds_its_pod_again(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/patient.py")
    run = pods.airflow.start("PatientFlow", "PatientFlow")
    pods.airflow.wait_until(lambda: pods.has(run, "started-0"), timeout=180)
    # The workers of LocalExecutor belong to the scheduler.
    pods.airflow.kill_task(run, "start")
    pods.airflow.kill_and_restart("scheduler")
    pods.airflow.wait_until(lambda: run.instances()[("start", -1)].try_number == 2, timeout=300)
    pods.put(run, "go")
    run.wait(timeout=300)
    assert pods.artifacts(run)["start"][((), ())]["attempt"] == 0
    assert not pods.has(run, "started-1")


@pytest.mark.extended
def test_a_pod_that_succeeds_while_nobody_watches_is_not_run_again(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/patient.py")
    run = pods.airflow.start("PatientFlow", "PatientFlow")
    pods.airflow.wait_until(lambda: pods.has(run, "started-0"), timeout=180)
    pods.airflow.kill_task(run, "start")
    with pods.airflow.killed("scheduler"):
        pods.put(run, "go")
        pods.airflow.wait_until(lambda: pods.phases("PatientFlow") == ["Succeeded"], timeout=120)
    run.wait(timeout=300)
    assert run.instances()[("start", -1)].try_number == 2
    assert pods.artifacts(run)["start"][((), ())]["attempt"] == 0
    assert not pods.has(run, "started-1")


@pytest.mark.extended
@pytest.mark.parametrize(
    "end",
    [
        "deleted",
        pytest.param("killed", marks=pytest.mark.built_cluster),
    ],
)
def test_a_pod_that_is_ended_by_somebody_is_a_failed_attempt(pods: Pods, flows: Path, end: str) -> None:
    pods.deploy(flows / "containers/patient.py")
    run = pods.airflow.start("PatientFlow", "PatientFlow")
    pods.airflow.wait_until(lambda: pods.has(run, "started-0"), timeout=180)
    if end == "deleted":
        pods.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "-l", "metaflow/flow=PatientFlow", "--force")
    else:
        (pod,) = pods.cluster.get("pods", "-l", "metaflow/flow=PatientFlow")
        pods.cluster.kill_container(pod["metadata"]["name"])
    pods.airflow.wait_until(lambda: pods.has(run, "started-1"), timeout=180)
    pods.put(run, "go")
    run.wait(timeout=300)
    assert pods.artifacts(run)["start"][((), ())]["attempt"] == 1
    told = "attempt 0, failed: " + ("it was killed by SIGKILL" if end == "killed" else "")
    assert told in run.log("start", try_number=1)


@pytest.mark.extended
def test_a_pod_is_found_again_by_the_next_try_and_deleted_with_a_cleared_task(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/patient.py")
    run = pods.airflow.start("PatientFlow", "PatientFlow")

    def running() -> list[str]:
        found = pods.cluster.get("pods", "-l", "metaflow/flow=PatientFlow")
        return [
            one["metadata"]["name"]
            for one in found
            if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
        ]

    pods.airflow.wait_until(lambda: pods.has(run, "started-0"), timeout=120)
    (first,) = running()
    run.clear(task_ids=["start"])
    # The pod goes with the task; the next try has one of its own.
    pods.airflow.wait_until(lambda: pods.has(run, "started-1"), timeout=180)
    (second,) = running()
    assert first != second
    # A worker that dies leaves its pod alone; whoever comes next attaches to it.
    pods.airflow.kill_task(run, "start")
    pods.airflow.wait_until(lambda: run.instances()[("start", -1)].try_number == 3, timeout=180)
    assert running() == [second]
    pods.put(run, "go")
    run.wait(timeout=300)
    done = pods.artifacts(run)["start"][((), ())]
    assert (done["attempt"], done["pod"]) == (1, second)
    assert not pods.has(run, "started-2")


@pytest.mark.extended
def test_a_task_that_is_cleared_while_it_is_deferred_does_not_find_its_old_pod(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/patient.py")
    pods.write_dag("cleared", "PatientFlow", deferrable=True, poll_interval=10)
    run = pods.airflow.start("cleared", "PatientFlow")
    pods.airflow.wait_until(lambda: pods.has(run, "started-0"), timeout=180)
    pods.airflow.wait_until(lambda: run.states()["start"] == {"deferred"}, timeout=60)
    run.clear(task_ids=["start"])
    pods.airflow.wait_until(lambda: pods.has(run, "started-1"), timeout=180)
    assert pods.phases("PatientFlow") == ["Running"]
    pods.put(run, "go")
    run.wait(timeout=300)
    assert pods.artifacts(run)["start"][((), ())]["attempt"] == 1
