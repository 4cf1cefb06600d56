"""Argo's objects by the Kubernetes API, one that answers and refuses as the real one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.argo_api import ArgoApi

from metaflow_adapters.argo.cluster.client import CRONS, SENSORS, TEMPLATES, WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.cluster.namespace import ArgoClusterError


def template(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": name, "labels": {"part": name}},
        "spec": spec,
    }


def test_an_object_is_made_and_then_replaced_with_the_version_it_has(objects: ArgoCluster, api: ArgoApi) -> None:
    objects.apply(template(entrypoint="one", old=True))
    objects.apply(template(entrypoint="two"))
    found = objects.find(TEMPLATES, "a")
    assert found is not None
    assert found["spec"] == {"entrypoint": "two"}
    assert found["metadata"]["namespace"] == "flows"
    assert [method for method, _ in api.requests] == ["GET", "POST", "GET", "PUT", "GET"]


def test_an_object_goes_to_the_namespace_that_it_names(objects: ArgoCluster, api: ArgoApi) -> None:
    sensor = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Sensor", "metadata": {"name": "s", "namespace": "events"}}
    objects.apply(sensor)
    objects.apply(sensor)
    assert api.get(SENSORS, "s", "events") is not None
    assert objects.find(SENSORS, "s") is None
    assert objects.find(SENSORS, "s", "events") is not None
    assert objects.delete(SENSORS, "s") is False
    assert objects.delete(SENSORS, "s", "events") is True
    assert not api.objects


@pytest.mark.parametrize(("kind", "plural"), [("WorkflowTemplate", TEMPLATES), ("CronWorkflow", CRONS)])
def test_each_kind_of_object_has_a_collection_of_its_own(
    kind: str, plural: str, objects: ArgoCluster, api: ArgoApi
) -> None:
    objects.apply({**template(), "kind": kind})
    assert list(api.objects) == [(plural, "flows", "a")]


def test_lists_are_read_to_their_last_page(objects: ArgoCluster, api: ArgoApi) -> None:
    for number in range(5):
        objects.apply(template(f"t{number}"))
    assert [one["metadata"]["name"] for one in objects.every(TEMPLATES)] == ["t0", "t1", "t2", "t3", "t4"]
    assert [one["metadata"]["name"] for one in objects.every(TEMPLATES, "part=t3")] == ["t3"]
    assert list(objects.every(WORKFLOWS)) == []


def test_a_created_object_comes_back_with_the_name_that_it_got(objects: ArgoCluster) -> None:
    made = objects.create({"kind": "Workflow", "metadata": {"generateName": "a-"}, "spec": {}})
    assert made["metadata"]["name"].startswith("a-")
    assert objects.find(WORKFLOWS, made["metadata"]["name"]) is not None


def test_a_patch_changes_the_fields_that_it_names(objects: ArgoCluster, api: ArgoApi) -> None:
    api.put(WORKFLOWS, {"metadata": {"name": "w"}, "spec": {"suspend": True, "entrypoint": "e"}})
    objects.patch(WORKFLOWS, "w", {"spec": {"suspend": None, "shutdown": "Stop"}})
    found = api.get(WORKFLOWS, "w")
    assert found is not None
    assert found["spec"] == {"entrypoint": "e", "shutdown": "Stop"}


def test_a_refusal_is_reported_with_what_the_api_says(objects: ArgoCluster, api: ArgoApi) -> None:
    api.refused = {("POST", TEMPLATES), ("GET", WORKFLOWS)}
    with pytest.raises(ArgoClusterError, match=r"create workflowtemplates in the namespace 'flows'.*cannot do that"):
        objects.apply(template())
    with pytest.raises(ArgoClusterError, match="get workflows"):
        objects.find(WORKFLOWS, "w")
    with pytest.raises(ArgoClusterError, match=r'patch workflows.*"w" not found'):
        objects.patch(WORKFLOWS, "w", {"spec": {}})


def test_what_somebody_else_has_changed_meanwhile_is_not_overwritten(
    objects: ArgoCluster, api: ArgoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.apply(template())
    find = objects.find

    def find_and_be_late(*arguments: Any, **more: Any) -> Any:
        found = find(*arguments, **more)
        api.put(TEMPLATES, template(entrypoint="theirs"))
        return found

    monkeypatch.setattr(objects, "find", find_and_be_late)
    with pytest.raises(ArgoClusterError, match="the object has been modified"):
        objects.apply(template(entrypoint="ours"))
    there = api.get(TEMPLATES, "a")
    assert there is not None
    assert there["spec"] == {"entrypoint": "theirs"}


def test_a_namespace_without_argo_is_reported(api: ArgoApi) -> None:
    with pytest.raises(ArgoClusterError, match="list workflows in the namespace 'elsewhere'") as caught:
        list(ArgoCluster("elsewhere").every(WORKFLOWS))
    assert "that Argo is installed" in str(caught.value)


def test_a_cluster_that_is_away_is_reported(
    api: ArgoApi, tmp_path: Path, use_kubeconfig: Callable[[Path], None]
) -> None:
    use_kubeconfig(tmp_path / "none")
    with pytest.raises(ArgoClusterError, match="the Kubernetes cluster cannot be reached"):
        ArgoCluster("flows").find(TEMPLATES, "a")
    file = tmp_path / "kubeconfig"
    file.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", file.read_text()))
    use_kubeconfig(file)
    with pytest.raises(ArgoClusterError, match="the Kubernetes cluster cannot be reached"):
        ArgoCluster("flows").find(TEMPLATES, "a")


def test_pods_are_found_by_labels_and_their_logs_by_container(objects: ArgoCluster, api: ArgoApi) -> None:
    for name in ("p1", "p2"):
        api.put("pods", {"metadata": {"name": name, "labels": {"run": name}}})
    api.logs = {("p2", "main"): "gr\u00fcn\nline\n", ("p2", "wait"): '{"a": 1}'}
    (pod,) = objects.pods("run=p2")
    assert pod.metadata.name == "p2"
    assert objects.log("p2") == "gr\u00fcn\nline\n"
    assert objects.log("p2", "wait") == '{"a": 1}'


def test_a_secret_is_made_or_replaced_and_deleted(objects: ArgoCluster, api: ArgoApi) -> None:
    objects.save_secret("s", {"SLACK": "one"})
    objects.save_secret("s", {"SLACK": "two"})
    found = api.get("secrets", "s")
    assert found is not None
    assert found["stringData"] == {"SLACK": "two"}
    assert found["metadata"]["labels"] == {"app.kubernetes.io/part-of": "metaflow"}
    objects.delete_secret("s")
    assert not api.objects
    objects.delete_secret("s")


def test_a_secret_that_cannot_be_kept_is_reported_without_its_content(objects: ArgoCluster, api: ArgoApi) -> None:
    api.refused = {("POST", "secrets")}
    with pytest.raises(ArgoClusterError, match="the secret 's' cannot be made") as caught:
        objects.save_secret("s", {"SLACK": "hush"})
    assert "hush" not in str(caught.value)


def test_who_may_not_delete_secrets_can_delete_the_rest(objects: ArgoCluster, api: ArgoApi) -> None:
    objects.save_secret("s", {"SLACK": "one"})
    api.refused = {("DELETE", "secrets")}
    objects.delete_secret("s")
    assert api.get("secrets", "s") is not None
