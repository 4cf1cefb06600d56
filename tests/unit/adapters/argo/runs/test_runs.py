"""Runs of deployed flows: started, found, changed by who may, taken over, and deleted with the deployment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.argo_api import ArgoApi

from metaflow_adapters.argo import ArgoDeployment
from metaflow_adapters.argo.cluster.client import TEMPLATES, WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.cluster.namespace import ArgoClusterError
from metaflow_adapters.argo.runs.lookup import status_of
from metaflow_adapters.argo.runs.runs import ArgoRuns, Caller, deployed_templates
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError

Deploy = Callable[..., tuple[ArgoDeployment, ArgoRuns]]
ANN = Caller(flow="LinearFlow", user="ann")


def phase(api: ArgoApi, run_id: str, name: str | None) -> dict[str, Any]:
    """Let the controller have looked at a workflow."""
    workflow = api.get(WORKFLOWS, run_id.removeprefix("argo-"))
    assert workflow is not None
    workflow["status"] = {"phase": name} if name is not None else {}
    return workflow


def test_a_run_is_a_workflow_of_the_template_with_the_given_parameters(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("decorated/nightly")
    run_id = runs.start({"size": "7"})
    workflow = runs.find(run_id)
    assert workflow["metadata"]["name"] == run_id.removeprefix("argo-")
    assert workflow["metadata"]["name"].startswith("nightly-")
    assert workflow["spec"] == {
        "workflowTemplateRef": {"name": "nightly"},
        "arguments": {"parameters": [{"name": "size", "value": "7"}]},
    }
    assert workflow["kind"] == "Workflow"
    assert "arguments" not in runs.find(runs.start({}))["spec"]


def test_a_parameter_that_is_unknown_or_missing_starts_nothing(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("decorated/triggered")
    with pytest.raises(InvalidOptionError, match="there is no parameter 'daay'") as caught:
        runs.start({"daay": "1"})
    assert "Parameters are: day, exact, model." in str(caught.value)
    with pytest.raises(InvalidOptionError, match="the parameter 'day' is required"):
        runs.start({"model": "m"})
    assert not [key for key in api.objects if key[0] == WORKFLOWS]
    assert runs.start({"day": "1"})


def test_a_flow_that_is_not_deployed_cannot_start(deploy: Deploy, objects: ArgoCluster, api: ArgoApi) -> None:
    with pytest.raises(InvalidOptionError, match=r"no workflow template 'gone' in the namespace 'flows'.*argo create"):
        ArgoRuns(objects, "gone", "GoneFlow").start({})
    api.put(TEMPLATES, {"metadata": {"name": "foreign"}, "spec": {}})
    with pytest.raises(InvalidOptionError, match="'foreign' was not made from a Metaflow flow"):
        ArgoRuns(objects, "foreign", "ForeignFlow").start({})


def test_a_run_is_found_by_its_run_id_only(deploy: Deploy) -> None:
    _, runs = deploy("linear")
    with pytest.raises(InvalidOptionError, match="start with 'argo-'; got 'sfn-1'"):
        runs.find("sfn-1")
    with pytest.raises(InvalidOptionError, match="there is no run 'argo-linear-x'"):
        runs.find("argo-linear-x")


@pytest.mark.parametrize(
    ("status", "spec", "shown"),
    [
        ({}, {}, "Pending"),
        ({"phase": ""}, {}, "Pending"),
        ({"phase": "Running"}, {}, "Running"),
        ({"phase": "Running"}, {"suspend": True}, "Suspended"),
        ({"phase": "Succeeded"}, {"suspend": True}, "Succeeded"),
        ({"phase": "Failed"}, {}, "Failed"),
        ({"phase": "Error"}, {}, "Failed"),
    ],
)
def test_a_status_is_shown_in_metaflows_words(status: dict[str, Any], spec: dict[str, Any], shown: str) -> None:
    assert status_of({"status": status, "spec": spec}) == shown
    if not status:
        assert status_of({"spec": spec}) == shown


def test_the_runs_of_a_deployment_are_listed_the_newest_first_and_no_others(deploy: Deploy, api: ArgoApi) -> None:
    _, other = deploy("foreach")
    _, runs = deploy("linear")
    first = runs.start({})
    other.start({})
    second, third = runs.start({}), runs.start({})
    api.put(WORKFLOWS, {"metadata": {"name": "by-hand"}, "spec": {}})
    phase(api, first, "Error")
    phase(api, second, "Running")
    listed = list(runs.every())
    assert [(run_id, state) for run_id, state, _ in listed] == [
        (third, "Pending"),
        (second, "Running"),
        (first, "Failed"),
    ]
    assert listed[0][2] > listed[1][2] > listed[2][2]


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("terminate", {"shutdown": "Terminate"}),
        ("suspend", {"suspend": True}),
        ("unsuspend", {}),
    ],
)
@pytest.mark.parametrize("state", [None, "", "Pending", "Running"])
def test_a_verb_changes_a_run_that_has_not_ended(
    verb: str, expected: dict[str, Any], state: str | None, deploy: Deploy, api: ArgoApi
) -> None:
    _, runs = deploy("linear")
    run_id, untouched = runs.start({}), runs.start({})
    workflow = phase(api, run_id, state)
    if verb == "unsuspend":
        workflow["spec"]["suspend"] = True
    getattr(runs, verb)(run_id, ANN)
    assert runs.find(run_id)["spec"] == {"workflowTemplateRef": {"name": "linear"}, **expected}
    assert runs.find(untouched)["spec"] == {"workflowTemplateRef": {"name": "linear"}}


@pytest.mark.parametrize("state", ["Succeeded", "Failed", "Error"])
@pytest.mark.parametrize("verb", ["terminate", "suspend", "unsuspend"])
def test_a_run_that_has_ended_is_not_changed(verb: str, state: str, deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("linear")
    run_id = runs.start({})
    phase(api, run_id, state)
    with pytest.raises(InvalidOptionError, match=f"the run {run_id} has {state.lower()} and cannot be {verb}"):
        getattr(runs, verb)(run_id, ANN)
    assert runs.find(run_id)["spec"] == {"workflowTemplateRef": {"name": "linear"}}


VERBS: dict[str, Callable[[ArgoRuns, str, Caller], object]] = {
    "terminate": lambda runs, run_id, caller: runs.terminate(run_id, caller),
    "suspend": lambda runs, run_id, caller: runs.suspend(run_id, caller),
    "unsuspend": lambda runs, run_id, caller: runs.unsuspend(run_id, caller),
    "resume": lambda runs, run_id, caller: runs.resume(run_id, caller, ()),
    "delete": lambda runs, run_id, caller: runs.delete(caller),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("token", [None, "token-2"])
def test_a_deployment_of_somebody_else_needs_its_token(
    verb: str, token: str | None, deploy: Deploy, api: ArgoApi
) -> None:
    _, runs = deploy("linear")
    run_id = runs.start({})
    phase(api, run_id, "Failed" if verb == "resume" else "Running")
    before = msgspec.json.encode(list(api.objects.values()))
    with pytest.raises(InvalidOptionError, match=r"the user ann\..*--authorize TOKEN"):
        VERBS[verb](runs, run_id, Caller(flow="LinearFlow", user="bea", token=token))
    assert msgspec.json.encode(list(api.objects.values())) == before
    VERBS[verb](runs, run_id, Caller(flow="LinearFlow", user="bea", token="token-1"))
    assert msgspec.json.encode(list(api.objects.values())) != before or verb == "unsuspend"


@pytest.mark.parametrize(
    ("caller", "told"),
    [
        ({"flow": "OtherFlow"}, "belongs to the flow 'NightlyFlow', not to 'OtherFlow'"),
        ({"project": None}, "belongs to the project 'market', not to None"),
        ({"branch": "user.ann"}, "belongs to the branch 'prod', not to 'user.ann'"),
    ],
)
def test_a_run_of_another_flow_project_or_branch_is_not_changed(
    caller: dict[str, Any], told: str, deploy: Deploy
) -> None:
    _, runs = deploy("decorated/nightly")
    run_id = runs.start({})
    mine = {"flow": "NightlyFlow", "user": "ann", "project": "market", "branch": "prod"}
    with pytest.raises(InvalidOptionError, match=told):
        runs.terminate(run_id, Caller(**{**mine, **caller}))
    runs.terminate(run_id, Caller(**mine))
    assert runs.find(run_id)["spec"]["shutdown"] == "Terminate"


@pytest.mark.parametrize("where", ["template", "spec", "status", "own"])
def test_whose_a_run_is_stands_in_the_run_itself_once_the_controller_has_seen_it(
    where: str, deploy: Deploy, api: ArgoApi
) -> None:
    _, runs = deploy("linear")
    run_id = runs.start({})
    workflow = phase(api, run_id, "Running")
    notes = {
        "metaflow/owner": "carl",
        "metaflow/production_token": "token-c",
        "metaflow/flow_name": "LinearFlow",
    }
    if where == "spec":
        workflow["spec"]["workflowMetadata"] = {"annotations": notes}
    elif where == "status":
        workflow["status"]["storedWorkflowTemplateSpec"] = {"workflowMetadata": {"annotations": notes}}
    elif where == "own":
        workflow["metadata"]["annotations"] = notes
    owner = "ann" if where == "template" else "carl"
    with pytest.raises(InvalidOptionError, match=f"belongs to a deployment of the user {owner}"):
        runs.terminate(run_id, Caller(flow="LinearFlow", user="bea"))
    runs.terminate(run_id, Caller(flow="LinearFlow", user=owner))


def test_a_run_whose_template_is_gone_is_nobodys(deploy: Deploy, objects: ArgoCluster) -> None:
    _, runs = deploy("linear")
    run_id = runs.start({})
    objects.delete(TEMPLATES, "linear")
    with pytest.raises(InvalidOptionError, match="belongs to the flow None"):
        runs.terminate(run_id, ANN)


def test_a_resumed_run_takes_the_parameters_of_the_first_and_names_it(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("decorated/nightly")
    mine = Caller(flow="NightlyFlow", user="ann", project="market", branch="prod")
    run_id = runs.start({"size": "7", "note": "hush"})
    phase(api, run_id, "Running")
    with pytest.raises(InvalidOptionError, match=f"the run {run_id} has not ended"):
        runs.resume(run_id, mine, ())
    workflow = phase(api, run_id, "Failed")
    workflow["spec"]["arguments"]["parameters"] += [{"name": "removed", "value": "1"}, {"name": "regions"}]
    second = runs.resume(run_id, mine, ("start", "end"))
    given = {one["name"]: one["value"] for one in runs.find(second)["spec"]["arguments"]["parameters"]}
    assert given == {"size": "7", "note": "hush", "metaflow-origin": f"{run_id}:start:end"}
    phase(api, second, "Succeeded")
    third = runs.resume(second, mine, ())
    given = {one["name"]: one["value"] for one in runs.find(third)["spec"]["arguments"]["parameters"]}
    assert given["metaflow-origin"] == second
    fourth = runs.resume(run_id, mine, ("end",), {"size": "8"})
    given = {one["name"]: one["value"] for one in runs.find(fourth)["spec"]["arguments"]["parameters"]}
    assert given == {"size": "8", "note": "hush", "metaflow-origin": f"{run_id}:end:--size"}
    # What is a workflow here has its own, whatever is stored elsewhere.
    fifth = runs.resume(run_id, mine, (), stored=lambda: {"size": "9"})
    given = {one["name"]: one["value"] for one in runs.find(fifth)["spec"]["arguments"]["parameters"]}
    assert given == {"size": "7", "note": "hush", "metaflow-origin": run_id}
    with pytest.raises(InvalidOptionError, match="there is no parameter 'sise'"):
        runs.resume(run_id, mine, (), {"sise": "8"})
    # Runs that are no workflows here: of another deployer, or deleted by Argo since.
    for other in ("17", "airflow-1f2e", "argo-gone"):
        again = runs.resume(other, mine, (), {"note": "x"}, stored=lambda: {"size": "9"})
        given = {one["name"]: one["value"] for one in runs.find(again)["spec"]["arguments"]["parameters"]}
        assert given == {"size": "9", "note": "x", "metaflow-origin": f"{other}:--note"}
        with pytest.raises(InvalidOptionError, match=r"run ids of Argo Workflows start with|there is no run"):
            runs.resume(other, mine, ())


def test_logs_are_those_of_the_pods_of_one_run_and_step(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("linear")
    run_id, other = runs.start({}), runs.start({})
    for number, (of, step) in enumerate([(run_id, "start"), (run_id, "end"), (other, "start")]):
        labels = {"workflows.argoproj.io/workflow": of.removeprefix("argo-"), "metaflow/step": step}
        notes = {"workflows.argoproj.io/node-name": f"{of}.{step}"} if number else None
        api.put("pods", {"metadata": {"name": f"pod-{number}", "labels": labels, "annotations": notes}})
        api.logs[f"pod-{number}", "main"] = f"log {number}"
    # A node of a gang, which is a pod of a job.
    gang = {"metaflow/argo-workflows-name": run_id.removeprefix("argo-"), "metaflow/step": "train"}
    api.put("pods", {"metadata": {"name": "gang-0", "labels": gang}})
    api.logs["gang-0", "main"] = "log of a node"
    own = [("pod-0", "log 0"), (f"{run_id}.end", "log 1")]
    assert list(runs.logs(run_id)) == [*own, ("gang-0", "log of a node")]
    assert list(runs.logs(run_id, "train")) == [("gang-0", "log of a node")]
    assert list(runs.logs(run_id, "end")) == [(f"{run_id}.end", "log 1")]


def test_a_deployment_is_deleted_with_all_that_it_has_made(deploy: Deploy, objects: ArgoCluster, api: ArgoApi) -> None:
    _, kept = deploy("linear")
    _, runs = deploy("decorated/triggered")
    _, scheduled = deploy("decorated/nightly")
    objects.save_secret("triggered-notify", {"SLACK": "hush"})
    run_id = runs.start({"day": "1"})
    api.requests.clear()
    runs.delete(Caller(flow="TriggeredFlow", user="ann"))
    assert [path.rpartition("/")[2] for method, path in api.requests if method == "DELETE"] == [
        "triggered",
        "triggered",
        "triggered-notify",
        "triggered",
    ]
    scheduled.delete(Caller(flow="NightlyFlow", user="ann"))
    left = sorted((kind, name) for kind, _, name in api.objects)
    assert left == [(WORKFLOWS, run_id.removeprefix("argo-")), (TEMPLATES, "linear")]
    assert api.requests[-1][1].endswith("/workflowtemplates/nightly")
    assert kept.start({})


def test_the_templates_of_a_flow_are_listed_and_those_of_all_flows(
    deploy: Deploy, objects: ArgoCluster, api: ArgoApi, on_s3: Callable[..., Manifest]
) -> None:
    deploy("linear")
    deploy("linear", name="linear-two")
    deploy("foreach")
    api.put(TEMPLATES, {"metadata": {"name": "foreign"}, "spec": {}})
    assert list(deployed_templates(objects, "LinearFlow")) == ["linear", "linear-two"]
    assert list(deployed_templates(objects, None)) == ["linear", "linear-two", "foreach"]


GANGS = {
    "phase": "Running",
    "storedWorkflowTemplateSpec": {
        "templates": [
            {"name": "gang", "resource": {"manifest": "apiVersion: batch/v1\nkind: Job\nspec: {}\n"}},
            {"name": "team", "resource": {"manifest": "apiVersion: jobset.x-k8s.io/v1\nkind: JobSet\nspec: {}\n"}},
            {"name": "end", "container": {}},
        ]
    },
}


@pytest.fixture
def gangs(deploy: Deploy, api: ArgoApi, monkeypatch: pytest.MonkeyPatch) -> tuple[ArgoRuns, str]:
    """A run that has started gangs, beside another one."""
    monkeypatch.setattr("metaflow_adapters.argo.runs.ending._PAUSE_SECONDS", 0)
    _, runs = deploy("linear")
    run_id = runs.start({})
    phase(api, run_id, "Running").update(status=dict(GANGS))
    for kind in ("jobs", "jobsets"):
        for owner in (run_id.removeprefix("argo-"), "another"):
            labels = {"metaflow/argo-workflows-name": owner}
            api.put(kind, {"metadata": {"generateName": f"{owner}-", "labels": labels}})
    return runs, run_id


def owners(api: ArgoApi) -> set[tuple[str, str]]:
    """Kind and workflow of all gangs."""
    return {
        (kind, one["metadata"]["labels"]["metaflow/argo-workflows-name"])
        for (kind, _, _), one in api.objects.items()
        if kind in ("jobs", "jobsets")
    }


def test_a_terminated_run_leaves_no_gang_behind_also_none_that_starts_meanwhile(
    gangs: tuple[ArgoRuns, str], api: ArgoApi
) -> None:
    runs, run_id = gangs
    name, answer, looks = run_id.removeprefix("argo-"), api.answer, []

    def controlled(method: str, url: str, body: Any) -> tuple[int, Any]:
        found = answer(method, url, body)
        workflow = api.get(WORKFLOWS, name) or {}
        if (method, url.rpartition("/")[2]) == ("GET", name) and "shutdown" in workflow["spec"]:
            looks.append(url)
            if len(looks) == 2:
                # A last one, of a pod that is not ended yet.
                api.put("jobs", {"metadata": {"name": "late", "labels": {"metaflow/argo-workflows-name": name}}})
            if len(looks) == 3:
                phase(api, run_id, "Failed")
        return found

    api.answer = controlled  # type: ignore[method-assign]
    runs.terminate(run_id, ANN)
    assert owners(api) == {("jobs", "another"), ("jobsets", "another")}
    assert len(looks) == 3


def test_a_cluster_without_jobsets_ends_the_jobs_of_a_run(gangs: tuple[ArgoRuns, str], api: ArgoApi) -> None:
    runs, run_id = gangs
    api.absent.add("jobsets")
    answer = api.answer

    def ended(method: str, url: str, body: Any) -> tuple[int, Any]:
        found = answer(method, url, body)
        if method == "PATCH":
            phase(api, run_id, "Failed")
        return found

    api.answer = ended  # type: ignore[method-assign]
    runs.terminate(run_id, ANN)
    assert ("jobs", run_id.removeprefix("argo-")) not in owners(api)


def test_gangs_that_may_not_be_deleted_are_reported_with_the_rights_that_it_takes(
    gangs: tuple[ArgoRuns, str], api: ArgoApi
) -> None:
    runs, run_id = gangs
    api.refused.add(("DELETE", "jobs"))
    with pytest.raises(ArgoClusterError, match=r"cannot be deleted: jobs is forbidden.*rights to list and"):
        runs.terminate(run_id, ANN)
    workflow = api.get(WORKFLOWS, run_id.removeprefix("argo-"))
    assert workflow is not None
    assert workflow["spec"]["shutdown"] == "Terminate"
