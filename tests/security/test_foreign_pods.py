"""Promise: a task takes its outcome from a pod of its own, not from whatever somebody has given its labels."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.containers import told, work
from tests.support.kubernetes_api import KubernetesApi, Pod, ended, kubernetes_api
from tests.support.task_runs import FlowRun, MemoryMetaflow

from metaflow_orchestration.graph.identity import airflow_run_id
from metaflow_orchestration.graph.model import Retry

RUN = airflow_run_id("LinearFlow", "manual__1")
EVIL = json.dumps({"task_id": "t-start", "next": ["middle"], "num_splits": 7})


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with kubernetes_api(tmp_path) as (served, _):
        yield served


@pytest.fixture
def run(remote_dag: Callable[..., DAG], api: KubernetesApi, metaflow: MemoryMetaflow, tmp_path: Path) -> FlowRun:
    """A run whose steps are pods."""
    kubernetes = {"config_file": str(tmp_path / "kubeconfig"), "in_cluster": False, "get_logs": False}
    steps = {"start": {"retry": Retry(user=2)}}
    dag = remote_dag("linear", steps, compute="kubernetes", kubernetes=kubernetes)
    api.start = lambda pod: ended(*work(metaflow, dag, document(pod)))(pod)
    return FlowRun(dag)


def document(pod: Pod) -> dict[str, Any]:
    return told({one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]})


def left_by_a_lost_worker(run: FlowRun, api: KubernetesApi) -> Pod:
    """Let a try fail, and return its pod as it would be if its worker had been lost."""
    begin, api.start = api.start, ended(1)
    assert run.run("start") == "up_for_retry"
    api.start = begin
    pod = copy.deepcopy(api.made[-1])
    pod["metadata"]["labels"].pop("already_checked", None)
    return pod


def owned(pod: Pod) -> None:
    owner = {"apiVersion": "v1", "kind": "ReplicaSet", "name": "evil", "uid": "x", "controller": True}
    pod["metadata"]["ownerReferences"] = [owner]


FOREIGN: dict[str, Callable[[Pod], Any]] = {
    "another name": lambda pod: pod["metadata"].update(name="evil"),
    "another owner": owned,
    "another service account": lambda pod: pod["spec"].update(serviceAccountName="evil"),
    "another image": lambda pod: pod["spec"]["containers"][0].update(image="evil:1"),
    "another container": lambda pod: pod["spec"]["containers"][0].update(name="evil"),
}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_pod_that_has_the_labels_of_a_task_only_is_not_attached_to(
    run: FlowRun, api: KubernetesApi, metaflow: MemoryMetaflow, how: str
) -> None:
    pod = left_by_a_lost_worker(run, api)
    FOREIGN[how](pod)
    made = len(api.made)
    foreign = api.add(pod, ended(0, EVIL))
    run.run_all("start")
    # Its own pod has run, and the other is let be.
    assert len(api.made) == made + 1
    assert metaflow.results["start", RUN, "t-start"][0] == 1
    assert "splits" not in run.value("start", key="metaflow")["tasks"][0]
    assert foreign["metadata"]["name"] in api.pods


def test_the_pod_of_a_task_that_a_worker_has_lost_is_attached_to(run: FlowRun, api: KubernetesApi) -> None:
    pod = left_by_a_lost_worker(run, api)
    made = len(api.made)
    # Kubernetes fills it in.
    pod["spec"]["serviceAccountName"] = "default"
    api.add(pod, ended(0, json.dumps({"task_id": "t-start", "next": ["middle"]})))
    run.run_all("start")
    assert len(api.made) == made
    assert api.pods == {}


@pytest.mark.parametrize("message", [{"task_id": "t-7"}, {"task_id": "../x"}, {"task_id": None}, {"next": ["end"]}, {}])
def test_a_message_of_another_task_is_no_outcome(
    run: FlowRun, api: KubernetesApi, metaflow: MemoryMetaflow, message: dict[str, Any]
) -> None:
    metaflow.results["start", RUN, "t-start"] = (0, {"task_id": "t-start", "next": ["middle"]})
    api.start = ended(0, json.dumps({"next": ["end"], **message}))
    run.run_all("start")
    # What the datastore holds counts.
    assert run.value("start", key="metaflow")["tasks"] == [{"path": [], "task": "t-start", "next": ["middle"]}]


def test_a_pod_that_was_replaced_while_it_was_watched_tells_nothing(
    run: FlowRun, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    def replaced(pod: Pod) -> None:
        ended(0, EVIL)(pod)
        pod["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Job", "name": "evil", "uid": "x"}]

    api.start = replaced
    ended_as = run.run("start")
    assert ended_as == "up_for_retry"
    assert "was replaced by another: it is owned by Job evil" in str(ended_as.error)
