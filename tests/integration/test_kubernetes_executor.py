"""The KubernetesExecutor on a real cluster: each task instance is a fresh pod without a cache."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.environment import environment_variable
from tests.support.kubernetes_executor import REQUESTS, KubernetesAirflow, deploy, kubernetes_airflow

from metaflow_orchestration.documents.manifest import decode_manifest

if TYPE_CHECKING:
    from tests.support.kubernetes import Cluster
    from tests.support.object_store import ObjectStore

COMPILES = "TEST_COMPILES_FLOWS"
"""A variable of Airflow's components on the machine, which pods do not have."""

MADE_FLOW = f"""import os
import uuid

from metaflow import FlowSpec, Parameter, step


def made(context):
    assert {COMPILES!r} in os.environ, "compiled in a worker pod"
    return uuid.uuid4().hex


class MadeFlow(FlowSpec):
    made = Parameter("made", default=made)

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        self.found = self.made


if __name__ == "__main__":
    MadeFlow()
"""

SIZED_FLOW = """import os
import socket

from metaflow import FlowSpec, {decorator}, step


class {name}(FlowSpec):
    @step
    def start(self):
        self.words = ["a", "b", "c"]
        self.next(self.fit, foreach="words")

    @{decorator}({asked})
    @step
    def fit(self):
        self.made = self.input * 2
        self.ran_on = socket.gethostname()
        self.own_pod = os.environ.get("METAFLOW_KUBERNETES_POD_NAME")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.made = [one.made for one in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    {name}()
"""

# Containers of its own file system are the built cluster's: the DAG files are a folder of this machine.
pytestmark = [pytest.mark.scheduler, pytest.mark.extended, pytest.mark.built_cluster]


@pytest.fixture(scope="module")
def started(cluster: Cluster, cluster_store: ObjectStore) -> Iterator[KubernetesAirflow]:
    with environment_variable(COMPILES, "yes"), kubernetes_airflow(cluster, cluster_store) as airflow:
        yield airflow


def sized_flow(folder: Path, name: str, decorator: str, asked: str) -> Path:
    file = folder / f"{name.lower()}.py"
    file.write_text(SIZED_FLOW.format(name=name, decorator=decorator, asked=asked))
    return file


def test_no_worker_pod_compiles_a_flow_file_that_the_dag_processor_has_compiled(
    started: KubernetesAirflow, tmp_path: Path
) -> None:
    flow = tmp_path / "made.py"
    flow.write_text(MADE_FLOW)
    deploy(started, flow)
    run = started.airflow.start("MadeFlow", "MadeFlow")
    run.wait()
    (file,) = (started.airflow.server.home / "metaflow").glob("manifests/made-*.metaflow.json")
    (parameter,) = decode_manifest(file.read_bytes(), str(file)).graph.parameters
    # Each compile makes another default.
    assert started.artifacts(run)["end"][((), ())]["found"] == parameter.default
    assert set(started.worker_pods(run)) == {("start", -1), ("end", -1)}


def test_the_pod_of_a_local_step_has_the_resources_of_the_step(started: KubernetesAirflow, tmp_path: Path) -> None:
    deploy(started, sized_flow(tmp_path, "SizedFlow", "resources", "cpu=0.1, memory=300"))
    run = started.airflow.start("SizedFlow", "SizedFlow")
    run.wait()
    found = started.artifacts(run)
    assert found["join"][((), ())]["made"] == ["aa", "bb", "cc"]
    pods = started.worker_pods(run)
    requests = {key: pod["spec"]["containers"][0]["resources"]["requests"] for key, pod in pods.items()}
    assert requests == {
        **{("fit", index): {"cpu": "100m", "memory": "300M"} for index in range(3)},
        **{(step, -1): REQUESTS for step in ("start", "join", "end")},
    }
    for index in range(3):
        task = found["fit"][((index,), ())]
        assert (task["ran_on"], task["own_pod"]) == (pods["fit", index]["metadata"]["name"], None)


def test_a_step_with_kubernetes_runs_in_a_pod_that_its_worker_pod_starts(
    started: KubernetesAirflow, tmp_path: Path
) -> None:
    flow = sized_flow(tmp_path, "ApartFlow", "kubernetes", "cpu=0.05, memory=100, disk=20")
    deploy(started, flow, kubernetes={"in_cluster": True})
    run = started.airflow.start("ApartFlow", "ApartFlow")
    run.wait()
    found = started.artifacts(run)
    assert found["join"][((), ())]["made"] == ["aa", "bb", "cc"]
    workers = {key: pod["metadata"]["name"] for key, pod in started.worker_pods(run).items()}
    apart = [found["fit"][((index,), ())]["own_pod"] for index in range(3)]
    assert len({*workers.values(), *apart}) == 6 + 3
    assert all(name.startswith("apartflow-fit-") for name in apart)


def test_a_step_with_kubernetes_that_is_sent_to_the_worker_sizes_its_pod(
    started: KubernetesAirflow, tmp_path: Path
) -> None:
    flow = sized_flow(tmp_path, "HereFlow", "kubernetes", "cpu=0.15, memory=310, disk=20")
    deploy(started, flow, compute="local")
    run = started.airflow.start("HereFlow", "HereFlow")
    run.wait()
    assert started.artifacts(run)["join"][((), ())]["made"] == ["aa", "bb", "cc"]
    container = started.worker_pods(run)["fit", 1]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "150m", "memory": "310M", "ephemeral-storage": "20M"}
    # Not that of steps, which holds no Airflow.
    assert container["image"] == "local/airflow:1"


def test_steps_of_one_run_choose_their_executors(started: KubernetesAirflow, tmp_path: Path) -> None:
    flow = sized_flow(tmp_path, "MixedFlow", "resources", "cpu=0.1, memory=300")
    deploy(started, flow, step_overrides={"fit": {"executor": "LocalExecutor"}})
    run = started.airflow.start("MixedFlow", "MixedFlow")
    run.wait()
    found = started.artifacts(run)
    assert found["join"][((), ())]["made"] == ["aa", "bb", "cc"]
    assert {task["ran_on"] for task in found["fit"].values()} == {socket.gethostname()}
    assert set(started.worker_pods(run)) == {("start", -1), ("join", -1), ("end", -1)}
