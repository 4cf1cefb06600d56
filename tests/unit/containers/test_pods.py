from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from metaflow_orchestration.containers.gang import make_job, make_service
from metaflow_orchestration.containers.pods import (
    label_value,
    make_pod,
    pod_annotations,
    pod_labels,
    pod_name,
    task_environment,
)
from metaflow_orchestration.documents.manifest import CodePackage, Command, Deployment, Manifest
from metaflow_orchestration.graph.model import FlowGraph, Project, Step, StepKind
from metaflow_orchestration.run.commands import StepCall

STEP = Step(name="train_all", kind=StepKind.END)
GRAPH = FlowGraph(name="My_Flow", start="train_all", end="train_all", steps=(STEP,))
MANIFEST = Manifest(
    graph=GRAPH,
    deployment=Deployment(name="dag", owner="ada@example.org", production_token="t"),
    code=CodePackage(url="s3://b/x", sha="x", metadata="{}", datastore="s3", flow_file="flow.py", flow_dir="/nowhere"),
    command=Command(top_level=(), environment={}, datastore_root="s3://b", metadata="local"),
)
CALL = StepCall(
    step=STEP, run_id="airflow-1", task_id="t-3-0", attempt=2, max_user_retries=3, inputs=("airflow-1/start/t",)
)
PLAIN: dict[str, Any] = {"image": "python:3.11", "cpu": "1", "memory": "4096", "disk": "10240", "qos": "burstable"}


def pod_of(**attributes: Any) -> dict[str, Any]:
    return make_pod(
        {**PLAIN, **attributes},
        command=["python", "-c", "print('$(HOME)')"],
        environment={"A": "$(B) {{ c }}"},
        labels={"mine": "1"},
        annotations={"note": "2"},
        deadline_seconds=99,
    )


def container_of(**attributes: Any) -> dict[str, Any]:
    (container,) = pod_of(**attributes)["spec"]["containers"]
    return dict(container)


def test_a_bare_pod_has_metaflows_resources_and_nothing_that_was_not_asked_for() -> None:
    pod = pod_of()
    assert container_of()["resources"] == {"requests": {"cpu": "1", "memory": "4096M", "ephemeral-storage": "10240M"}}
    assert set(pod["spec"]) == {
        "containers", "restartPolicy", "activeDeadlineSeconds", "terminationGracePeriodSeconds",
    }  # fmt: skip
    assert (pod["spec"]["restartPolicy"], pod["spec"]["activeDeadlineSeconds"]) == ("Never", 99)
    assert not {"envFrom", "ports", "volumeMounts", "securityContext", "imagePullPolicy"} & set(container_of())


def test_what_kubernetes_would_expand_is_escaped() -> None:
    container = container_of()
    assert container["command"][-1] == "print('$$(HOME)')"
    assert {"name": "A", "value": "$$(B) {{ c }}"} in container["env"]


@pytest.mark.parametrize(
    ("attributes", "path", "expected"),
    [
        ({"image_pull_policy": "Always"}, "imagePullPolicy", "Always"),
        ({"secrets": ["a", "b"]}, "envFrom", [{"secretRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]),
        ({"secrets": "a,b"}, "envFrom", [{"secretRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]),
        ({"port": "8080"}, "ports", [{"containerPort": 8080}]),
        ({"persistent_volume_claims": {"data": "/mnt/d"}}, "volumeMounts", [{"name": "data", "mountPath": "/mnt/d"}]),
        ({"shared_memory": 64}, "volumeMounts", [{"name": "dhsm", "mountPath": "/dev/shm"}]),
        (
            {"security_context": {"run_as_user": 1000, "allow_privilege_escalation": False}},
            "securityContext",
            {"runAsUser": 1000, "allowPrivilegeEscalation": False},
        ),
    ],
)
def test_an_attribute_ends_up_in_the_container(attributes: dict[str, Any], path: str, expected: Any) -> None:
    assert container_of(**attributes)[path] == expected


@pytest.mark.parametrize(
    ("attributes", "path", "expected"),
    [
        ({"service_account": "runner"}, "serviceAccountName", "runner"),
        ({"node_selector": {"disk": "ssd"}}, "nodeSelector", {"disk": "ssd"}),
        (
            {"tolerations": [{"key": "gpu", "operator": "Exists", "toleration_seconds": 5}]},
            "tolerations",
            [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}],
        ),
        ({"image_pull_secrets": ["reg"]}, "imagePullSecrets", [{"name": "reg"}]),
        (
            {"persistent_volume_claims": {"data": "/mnt/d"}},
            "volumes",
            [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        ),
        (
            {"use_tmpfs": True, "tmpfs_path": "/scratch"},
            "volumes",
            [{"name": "tmpfs-ephemeral-volume", "emptyDir": {"medium": "Memory", "sizeLimit": "2048Mi"}}],
        ),
        (
            {"tmpfs_size": 10, "tmpfs_path": "/scratch"},
            "volumes",
            [{"name": "tmpfs-ephemeral-volume", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}}],
        ),
    ],
)
def test_an_attribute_ends_up_in_the_pod(attributes: dict[str, Any], path: str, expected: Any) -> None:
    assert pod_of(**attributes)["spec"][path] == expected


def test_limits_follow_qos_gpu_and_extended_resources() -> None:
    guaranteed = container_of(qos="Guaranteed")["resources"]
    assert guaranteed["limits"] == guaranteed["requests"]
    asked = container_of(gpu="2", gpu_vendor="AMD", extended_resources={"vendor.com/chip": 1})["resources"]
    assert asked["limits"] == {"amd.com/gpu": "2", "vendor.com/chip": "1"}
    assert asked["requests"]["vendor.com/chip"] == "1"
    # Zero is an order, too: no node with a GPU.
    assert container_of(gpu=0, gpu_vendor="nvidia")["resources"]["limits"] == {"nvidia.com/gpu": "0"}


def test_labels_annotations_and_namespace_of_the_decorator_are_kept_under_ours() -> None:
    metadata = pod_of(labels={"mine": "0", "team": "x"}, annotations={"k": None}, namespace="ml")["metadata"]
    assert metadata == {
        "namespace": "ml", "labels": {"mine": "1", "team": "x"}, "annotations": {"k": "", "note": "2"},
    }  # fmt: skip


def test_the_tmpfs_is_the_tasks_folder_for_temporary_files_unless_told_otherwise() -> None:
    given = {**PLAIN, "use_tmpfs": True, "tmpfs_path": "/scratch", "tmpfs_tempdir": True}
    assert task_environment(given)["METAFLOW_TEMPDIR"] == "/scratch"
    assert "METAFLOW_TEMPDIR" not in task_environment({**given, "tmpfs_tempdir": False})
    assert "METAFLOW_TEMPDIR" not in task_environment({**given, "use_tmpfs": False})


def test_name_and_labels_find_flow_run_step_and_index() -> None:
    assert pod_name(MANIFEST, CALL).startswith("my-flow-train-all-t-3-0-2-")
    labels = pod_labels(MANIFEST, CALL)
    assert [labels[f"metaflow/{key}"] for key in ("flow", "run-id", "step", "task-id")] == [
        "My_Flow", "airflow-1", "train_all", "t-3-0",
    ]  # fmt: skip
    # The attempt is no label: a lost pod is found by the next attempt.
    assert pod_annotations(MANIFEST, CALL)["metaflow/attempt"] == "2"


def test_names_differ_by_attempt_and_run_and_are_short_however_long_the_flow_is() -> None:
    long = replace(MANIFEST, graph=replace(GRAPH, name="F" * 200))
    names = {
        pod_name(long, call)
        for call in (CALL, replace(CALL, attempt=3), replace(CALL, run_id="airflow-2"), replace(CALL, task_id="t-4"))
    }
    assert len(names) == 4
    assert all(len(name) <= 57 for name in names)


@pytest.mark.parametrize("text", ["plain", "a@b.c", "x" * 80, "-odd-", "ünï", ""])
def test_any_text_becomes_a_valid_label(text: str) -> None:
    import re

    value = label_value(text)
    assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?", value)
    assert (value == text) == (text in ("plain", ""))


def test_project_and_branch_are_annotations() -> None:
    project = Project(name="p", branch="test.b", production=False, flow_name="p.test.b.My_Flow")
    manifest = replace(MANIFEST, graph=replace(GRAPH, project=project))
    assert pod_annotations(manifest, CALL)["metaflow/project_flow_name"] == "p.test.b.My_Flow"


def test_a_gang_is_an_indexed_job_that_fails_as_one_and_a_service_that_goes_with_it() -> None:
    pod = pod_of()
    pod["metadata"]["name"] = "gang"
    job = make_job(pod, 3)
    assert job["spec"]["completionMode"] == "Indexed"
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (3, 3, 0)
    assert job["spec"]["template"]["spec"]["subdomain"] == "gang"
    assert "name" not in job["spec"]["template"]["metadata"]
    service = make_service("gang", "uid")
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["ownerReferences"][0]["uid"] == "uid"
