"""The roles of `docs/argo/` allow what the verbs need, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml
from tests.support.argo_api import ArgoApi, rights_of
from tests.unit.adapters.argo.runs.test_runs import GANGS

from metaflow_adapters.argo import compile_flow
from metaflow_adapters.argo.cluster.client import TEMPLATES, WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.deploy import TemplateStore, apply
from metaflow_adapters.argo.runs.runs import ArgoRuns, Caller, deployed_templates
from metaflow_orchestration.documents.manifest import Manifest

from .conftest import EVENTS

ROLES = Path(__file__).parents[4] / "docs/argo"
SECRET = {"SLACK": "https://hush"}


def role(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROLES / name).read_text())
    return loaded


def without(manifest: Manifest, **graph: Any) -> Manifest:
    return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **graph))


def test_the_role_of_a_deployer_is_what_all_verbs_need_and_no_more(
    api: ArgoApi, objects: ArgoCluster, on_s3: Callable[..., Manifest], monkeypatch: Any
) -> None:
    monkeypatch.setattr("metaflow_adapters.argo.runs.starting._PAUSE_SECONDS", 0)
    monkeypatch.setattr("metaflow_adapters.argo.runs.starting._WAIT_SECONDS", 0)
    api.rights = rights_of(role("deployer-role.yaml"))
    scheduled, triggered = on_s3("decorated/nightly"), on_s3("decorated/triggered", name="nightly")
    for manifest in (scheduled, scheduled, triggered, triggered, without(triggered, triggers=()), scheduled):
        apply(compile_flow(manifest, namespace="flows", events=EVENTS), objects, SECRET)
    store = TemplateStore(objects, "nightly", "NightlyFlow")
    assert store.load() == ("ann", "token-1")
    runs, caller = ArgoRuns(objects, "nightly", "NightlyFlow"), Caller(
        flow="NightlyFlow", user="ann", project="market", branch="prod"
    )
    ended = runs.start({})
    workflow = api.get(WORKFLOWS, ended.removeprefix("argo-"))
    assert workflow is not None
    workflow["status"] = {"phase": "Failed"}
    run_id = runs.resume(ended, caller, ())
    assert len(list(runs.every())) == 2
    runs.suspend(run_id, caller)
    runs.unsuspend(run_id, caller)
    name = run_id.removeprefix("argo-")
    labels = {"workflows.argoproj.io/workflow": name}
    api.put("pods", {"metadata": {"name": "pod", "labels": labels, "annotations": {}}})
    api.logs["pod", "main"] = "a log"
    assert list(runs.logs(run_id)) == [("pod", "a log")]
    for kind in ("jobs", "jobsets"):
        api.put(kind, {"metadata": {"name": "gang", "labels": {"metaflow/argo-workflows-name": name}}})
    answer = api.answer

    def ending(method: str, url: str, body: Any) -> tuple[int, Any]:
        found = answer(method, url, body)
        if method == "PATCH":
            found[1]["status"] = {**GANGS, "phase": "Failed"}
        return found

    running = api.get(WORKFLOWS, name)
    assert running is not None
    running["status"] = dict(GANGS)
    api.answer = ending  # type: ignore[method-assign]
    runs.terminate(run_id, caller)
    assert api.get("jobs", "gang") is None
    # A run that the controller has lost, since it did not know its template.
    lost = {"phase": "Error", "message": 'workflowtemplates.argoproj.io "nightly" not found'}
    statuses = [lost, {"phase": "Running"}]

    def losing(method: str, url: str, body: Any) -> tuple[int, Any]:
        found = answer(method, url, body)
        if (method, found[0]) == ("POST", 201):
            found[1]["status"] = statuses.pop(0)
            found[1]["metadata"]["creationTimestamp"] = api.objects[TEMPLATES, "flows", "nightly"]["metadata"][
                "creationTimestamp"
            ]
        return found

    api.answer = losing  # type: ignore[method-assign]
    runs.start({})
    assert statuses == []
    assert list(deployed_templates(objects, None)) == ["nightly"]
    runs.delete(caller)
    assert api.used == api.rights


def test_the_role_of_pods_holds_what_argos_executor_calls() -> None:
    allowed = rights_of(role("pods-role.yaml"))
    # Argo's executor: results of tasks; of a resource template `kubectl create`, and then its status.
    assert {right for right in allowed if right[0] == "argoproj.io"} == {
        ("argoproj.io", "workflowtaskresults", verb) for verb in ("create", "patch")
    }
    gangs = {("batch", "jobs"), ("jobset.x-k8s.io", "jobsets")}
    assert {right for right in allowed if right[0] != "argoproj.io"} == {
        (*gang, verb) for gang in gangs for verb in ("create", "get")
    }
