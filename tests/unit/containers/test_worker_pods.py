from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.containers.test_options import on, with_defaults
from tests.unit.containers.test_pods import MANIFEST, PLAIN, STEP

from metaflow_orchestration.containers.worker_pods import worker_pod
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.compute import attributes_of
from metaflow_orchestration.graph.model import Decorator, Step

DEPLOYED = with_defaults(kubernetes={**PLAIN, "node_selector": None, "image_pull_policy": None})
RESOURCES = {"cpu": "1", "memory": "4096", "gpu": None, "disk": None, "shared_memory": None}


def container_of(step: Step, **given: Any) -> dict[str, Any]:
    pod = worker_pod(DEPLOYED, step, given)
    assert pod is not None
    (container,) = pod["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("step", [STEP, on("batch", PLAIN), on("retry", {"times": 3})], ids=lambda step: step.name)
def test_a_step_that_asks_for_nothing_leaves_the_pod_to_the_template(step: Step) -> None:
    assert worker_pod(MANIFEST, step, {"cpu": 4}) is None


def test_the_resources_of_a_step_are_the_requests_of_the_pod() -> None:
    step = on("resources", {**RESOURCES, "cpu": "2", "memory": "100"})
    assert worker_pod(MANIFEST, step, {}) == {
        "spec": {"containers": [{"name": "base", "resources": {"requests": {"cpu": "2", "memory": "100M"}}}]}
    }


def test_gpus_and_shared_memory_come_from_resources_alone_too() -> None:
    pod = worker_pod(MANIFEST, on("resources", {**RESOURCES, "gpu": "1", "shared_memory": 64}), {})
    assert pod is not None
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert container["volumeMounts"] == [{"name": "dhsm", "mountPath": "/dev/shm"}]
    assert pod["spec"]["volumes"] == [{"name": "dhsm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]


def test_a_pod_has_what_the_steps_own_pod_would_have_but_what_belongs_to_the_worker(
    recorded: Callable[[str], Manifest],
) -> None:
    manifest = recorded("decorated/pods")
    assert worker_pod(manifest, manifest.graph.step("start"), {}) == {
        "spec": {
            "containers": [
                {
                    "name": "base",
                    "image": "registry.example.org/team/image:2",
                    "imagePullPolicy": "Always",
                    "resources": {
                        "requests": {
                            "cpu": "2",
                            "memory": "3000M",
                            "ephemeral-storage": "5000M",
                            "example.org/fpga": "2",
                        },
                        "limits": {
                            "cpu": "2",
                            "memory": "3000M",
                            "ephemeral-storage": "5000M",
                            "example.org/fpga": "2",
                            "amd.com/gpu": "1",
                        },
                    },
                    "volumeMounts": [
                        {"name": "tmpfs-ephemeral-volume", "mountPath": "/fast"},
                        {"name": "dhsm", "mountPath": "/dev/shm"},
                        {"name": "cache", "mountPath": "/mnt/cache"},
                        {"name": "models", "mountPath": "/mnt/models"},
                    ],
                }
            ],
            "nodeSelector": (attributes_of(manifest.graph.step("start"), "kubernetes") or {})["node_selector"],
            "tolerations": [{"key": "arch", "operator": "Equal", "value": "amd", "effect": "NoSchedule"}],
            "imagePullSecrets": [{"name": "registry-login"}],
            "volumes": [
                {"name": "tmpfs-ephemeral-volume", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
                {"name": "dhsm", "emptyDir": {"medium": "Memory", "sizeLimit": "128Mi"}},
                {"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}},
                {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
            ],
        }
    }


def test_an_image_that_the_step_has_not_named_is_not_the_workers() -> None:
    bare = {**PLAIN, "image_pull_policy": "Always", "image_pull_secrets": ["login"]}
    pod = worker_pod(DEPLOYED, on("kubernetes", bare), {})
    assert pod == {
        "spec": {
            "containers": [
                {
                    "name": "base",
                    "resources": {"requests": {"cpu": "1", "memory": "4096M", "ephemeral-storage": "10240M"}},
                }
            ]
        }
    }
    named = container_of(on("kubernetes", {**bare, "image": "team/airflow:1"}))
    assert (named["image"], named["imagePullPolicy"]) == ("team/airflow:1", "Always")


def test_temporary_files_go_where_the_step_wants_them() -> None:
    step = on("kubernetes", {**PLAIN, "use_tmpfs": True, "tmpfs_tempdir": True, "tmpfs_path": "/fast"})
    assert container_of(step)["env"] == [{"name": "METAFLOW_TEMPDIR", "value": "/fast"}]


def test_the_dag_file_wins_over_the_decorator() -> None:
    step = on("kubernetes", PLAIN)
    container = container_of(step, memory="200", image="team/airflow:1", deferrable=True)
    assert (container["resources"]["requests"]["memory"], container["image"]) == ("200M", "team/airflow:1")
    with pytest.raises(InvalidOptionError, match=r"step train: `kubernetes` has memory '1Gi'.*without a unit"):
        worker_pod(DEPLOYED, step, {"memory": "1Gi"})


def test_a_decorator_of_kubernetes_holds_the_resources_already() -> None:
    resources = Decorator(name="resources", attributes={"cpu": "9"})
    both = replace(STEP, decorators=(*on("kubernetes", PLAIN).decorators, resources))
    assert container_of(both)["resources"]["requests"]["cpu"] == "1"
