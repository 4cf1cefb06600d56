"""A run that is submitted right after its template, which the controller may not know yet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.argo_api import ArgoApi

from metaflow_adapters.argo import ArgoDeployment
from metaflow_adapters.argo.cluster.client import TEMPLATES, WORKFLOWS
from metaflow_adapters.argo.cluster.namespace import ArgoClusterError
from metaflow_adapters.argo.runs.runs import ArgoRuns

Deploy = Callable[..., tuple[ArgoDeployment, ArgoRuns]]

UNKNOWN = {"phase": "Error", "message": 'workflowtemplates.argoproj.io "linear" not found'}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_PAUSE_SECONDS", 0), ("_LOOK_SECONDS", 0), ("_WAIT_SECONDS", 0.2)):
        monkeypatch.setattr(f"metaflow_adapters.argo.runs.starting.{name}", value)


def controller(api: ArgoApi, statuses: list[dict[str, Any]]) -> list[str]:
    """Let a controller give each new workflow the next status, the last one to all that follow; return their names."""
    answer, made = api.answer, []
    template = api.get(TEMPLATES, "linear")
    assert template is not None
    # Seconds before the first workflow, whose time the API makes of its number.
    template["metadata"]["creationTimestamp"] = f"2026-01-01T00:{api.versions:02}:50Z"

    def answered(method: str, url: str, body: Any) -> tuple[int, Any]:
        found = answer(method, url, body)
        if (method, found[0]) == ("POST", 201) and found[1]["kind"] == "Workflow":
            found[1]["status"] = statuses[min(len(made), len(statuses) - 1)]
            made.append(found[1]["metadata"]["name"])
        return found

    api.answer = answered  # type: ignore[method-assign]
    return made


def test_a_run_whose_template_the_controller_does_not_know_yet_is_submitted_again_under_its_name(
    deploy: Deploy, api: ArgoApi
) -> None:
    _, runs = deploy("linear")
    made = controller(api, [UNKNOWN, UNKNOWN, {"phase": "Running"}])
    run_id = runs.start({})
    assert made == [run_id.removeprefix("argo-")] * 3
    assert runs.find(run_id)["status"] == {"phase": "Running"}
    assert len([key for key in api.objects if key[0] == WORKFLOWS]) == 1


def test_a_controller_that_never_finds_the_template_is_reported(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("linear")
    made = controller(api, [UNKNOWN])
    with pytest.raises(ArgoClusterError, match="does not find the workflow template 'linear', or not its latest"):
        runs.start({})
    assert len(made) == 6
    assert not [key for key in api.objects if key[0] == WORKFLOWS]


def test_a_run_of_an_earlier_version_is_given_up_and_submitted_again_under_another_name(
    deploy: Deploy, api: ArgoApi
) -> None:
    def started(api: ArgoApi) -> dict[str, Any]:
        """As a controller starts a workflow, which writes out the fields that Go's types always have."""
        template = api.get(TEMPLATES, "linear")
        assert template is not None
        spec = copy.deepcopy(template["spec"])
        for one in spec["templates"]:
            one.setdefault("inputs", {})
        return {"phase": "Running", "storedWorkflowTemplateSpec": spec}

    deploy("linear")
    old = started(api)
    _, runs = deploy("linear", tags=("newer",))
    made = controller(api, [old, started(api)])
    run_id = runs.start({})
    assert len(set(made)) == len(made) == 2
    assert run_id == f"argo-{made[1]}"
    assert [name for kind, _, name in api.objects if kind == WORKFLOWS] == [made[1]]


@pytest.mark.parametrize(("changed", "looks"), [("2026-01-01T00:02:50Z", True), ("2025-12-31T00:00:00Z", False)])
def test_a_template_that_was_just_replaced_counts_as_new(
    changed: str, looks: bool, deploy: Deploy, api: ArgoApi
) -> None:
    _, runs = deploy("linear")
    made = controller(api, [UNKNOWN, {"phase": "Running"}])
    template = api.get(TEMPLATES, "linear")
    assert template is not None
    template["metadata"].update(creationTimestamp="2025-12-01T00:00:00Z", managedFields=[{"time": changed}, {}])
    runs.start({})
    assert len(made) == (2 if looks else 1)


@pytest.mark.parametrize("status", [{}, {"phase": "Pending"}, {"phase": "Error", "message": "no quota"}])
def test_any_other_run_is_submitted_once(status: dict[str, Any], deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("linear")
    made = controller(api, [status])
    runs.start({})
    assert len(made) == 1


def test_nobody_waits_for_a_run_of_an_old_template(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("linear")
    made = controller(api, [UNKNOWN])
    template = api.get(TEMPLATES, "linear")
    assert template is not None
    template["metadata"]["creationTimestamp"] = "2025-12-31T23:00:00Z"
    before = len(api.requests)
    runs.start({})
    assert len(made) == 1
    # The template, and the new workflow.
    assert [method for method, _ in api.requests[before:]] == ["GET", "POST"]
