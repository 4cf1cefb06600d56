"""A deployment in the middle of a run that moves a step into a pod, or out of one: the run stays where it began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from msgspec.structs import replace
from tests.support.containers import told, work
from tests.support.kubernetes_api import KubernetesApi, ended, kubernetes_api
from tests.support.manifests import deployed_on_s3
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.containers.options import base_attributes
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.graph.compute import Compute
from metaflow_orchestration.graph.model import Decorator, Retry


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with kubernetes_api(tmp_path) as (served, _):
        yield served


class Deployments:
    """Versions of the linear flow that differ in where its step `middle` runs, and in its other decorators."""

    def __init__(self, manifest: Manifest, folder: Path, api: KubernetesApi, metaflow: MemoryMetaflow) -> None:
        self._manifest, self._folder, self._api, self._metaflow = deployed_on_s3(manifest), folder, api, metaflow

    def make(self, code: str, *, in_pod: bool, **fields: Any) -> DAG:
        """Deploy a version, and let the pods of the Kubernetes do its work."""
        manifest = self._manifest
        attributes = base_attributes(manifest, manifest.graph.step("middle"), Compute.KUBERNETES)
        pod = (Decorator(name="kubernetes", attributes=attributes),) if in_pod else ()
        steps = tuple(
            replace(one, decorators=pod, **fields) if one.name == "middle" else one for one in manifest.graph.steps
        )
        sha = code * 40
        url = f"{manifest.command.datastore_root}/{manifest.graph.name}/data/{sha[:2]}/{sha}"
        path = self._folder / "linear.metaflow.json"
        path.write_bytes(
            encode_manifest(
                replace(
                    manifest,
                    graph=replace(manifest.graph, steps=steps),
                    code=replace(manifest.code, sha=sha, url=url),
                )
            )
        )
        kubernetes = {"config_file": str(self._folder / "kubeconfig"), "in_cluster": False, "get_logs": False}
        dag = MetaflowDag(path, kubernetes=kubernetes)
        self._api.start = lambda made: ended(*work(self._metaflow, dag, told(_environment(made))))(made)
        return dag


def _environment(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}


@pytest.fixture
def deployments(
    recorded: Callable[[str], Manifest], tmp_path: Path, api: KubernetesApi, metaflow: MemoryMetaflow
) -> Deployments:
    return Deployments(recorded("linear"), tmp_path, api, metaflow)


@pytest.mark.parametrize("began_in_pod", [True, False])
def test_a_step_runs_where_the_run_began_with_it(
    deployments: Deployments, api: KubernetesApi, metaflow: MemoryMetaflow, began_in_pod: bool
) -> None:
    """It ran the old code on the worker, or in a pod that was planned from a step without `@kubernetes`."""
    run = FlowRun(deployments.make("a", in_pod=began_in_pod))
    run.run_all("start")
    run.dag = deployments.make("b", in_pod=not began_in_pod)
    run.run_all("middle", "end")
    assert [told(_environment(pod))["step"] for pod in api.made] == (["middle"] if began_in_pod else [])
    assert {pod["spec"]["containers"][0]["name"] for pod in api.made} <= {"base"}
    assert metaflow.inputs("end") == ["middle/t"]


def test_a_cleared_run_goes_where_it_is_deployed_now(
    deployments: Deployments, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = FlowRun(deployments.make("a", in_pod=False))
    run.run_all("start", "middle", "end")
    run.dag = deployments.make("b", in_pod=True)
    run.clear("start")
    run.run_all("start", "middle", "end")
    assert [told(_environment(pod))["step"] for pod in api.made] == ["middle"]


def test_a_fallback_that_was_deployed_since_is_no_attempt_of_the_run(
    deployments: Deployments, metaflow: MemoryMetaflow
) -> None:
    """The last try was taken for the fallback of a `@catch` that the code of the run does not have."""
    run = FlowRun(deployments.make("a", in_pod=False, retry=Retry(user=1)))
    run.run_all("start")
    run.dag = deployments.make("b", in_pod=False, retry=Retry(user=0, error=1))
    run.run_all("middle")
    assert metaflow.call("middle").max_user_retries == 1
