"""What ``argo create`` brings to a cluster, and what it takes away there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.argo_api import ArgoApi
from tests.support.kubernetes_http import error

from metaflow_adapters.argo import ArgoDeployment, compile_flow
from metaflow_adapters.argo.cluster.client import CRONS, SENSORS, TEMPLATES, ArgoCluster
from metaflow_adapters.argo.cluster.namespace import ArgoClusterError
from metaflow_adapters.argo.deploy import TemplateStore, apply, make
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.argo.runs.runs import ArgoRuns
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError

EVENTS = EventSettings(event="event", source="source", account="account", namespace="events")
Deploy = Callable[..., tuple[ArgoDeployment, ArgoRuns]]


def kinds(api: ArgoApi) -> list[tuple[str, str]]:
    return sorted((kind, name) for kind, _, name in api.objects)


def test_a_scheduled_flow_is_a_template_and_a_cron_workflow_of_one_name(deploy: Deploy, api: ArgoApi) -> None:
    deploy("decorated/nightly")
    assert kinds(api) == [(CRONS, "nightly"), (TEMPLATES, "nightly")]
    cron = api.get(CRONS, "nightly")
    assert cron is not None
    assert cron["spec"]["workflowSpec"]["workflowTemplateRef"] == {"name": "nightly"}


def suspended(api: ArgoApi) -> bool:
    """Whether the schedule of the nightly flow is suspended."""
    cron = api.get(CRONS, "nightly")
    assert cron is not None
    return bool(cron["spec"].get("suspend"))


def suspend(api: ArgoApi) -> None:
    """What a user does in Argo's interface, or by `argo cron suspend`."""
    cron = api.get(CRONS, "nightly")
    assert cron is not None
    cron["spec"]["suspend"] = True


@pytest.fixture
def without_schedule(objects: ArgoCluster, on_s3: Callable[..., Manifest]) -> Callable[[], None]:
    """Deploys the nightly flow without its schedule."""

    def make() -> None:
        manifest = on_s3("decorated/nightly")
        without = msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, schedule=None))
        apply(compile_flow(without, namespace="flows"), objects)

    return make


@pytest.mark.parametrize("by_user", [False, True])
def test_a_removed_schedule_is_suspended_and_goes_on_as_it_was_when_it_comes_back(
    by_user: bool, deploy: Deploy, api: ArgoApi, without_schedule: Callable[[], None]
) -> None:
    deploy("decorated/nightly")
    if by_user:
        suspend(api)
    for _ in range(2):
        without_schedule()
        assert suspended(api)
    deploy("decorated/nightly")
    assert suspended(api) is by_user


def test_a_schedule_that_a_user_has_suspended_stays_so_when_the_flow_is_deployed_again(
    deploy: Deploy, api: ArgoApi
) -> None:
    deploy("decorated/nightly")
    suspend(api)
    deploy("decorated/nightly", tags=("newer",))
    assert suspended(api)


@pytest.mark.parametrize("left", [{"schedule": None}, {"schedules": []}])
def test_a_schedule_that_stock_metaflow_has_removed_is_no_suspended_one(
    left: dict[str, Any], deploy: Deploy, api: ArgoApi
) -> None:
    api.put(CRONS, {"metadata": {"name": "nightly"}, "spec": {"suspend": True, **left}})
    deploy("decorated/nightly")
    assert not suspended(api)


def test_a_cron_workflow_keeps_as_many_runs_as_stock_metaflow_lets_it(deploy: Deploy, api: ArgoApi) -> None:
    deploy("decorated/nightly")
    cron = api.get(CRONS, "nightly")
    assert cron is not None
    kept = [cron["spec"][f"{kind}JobsHistoryLimit"] for kind in ("successful", "failed")]
    assert kept == [10_000, 10_000]


@pytest.mark.parametrize(
    ("method", "kind"),
    [("POST", CRONS), ("PUT", TEMPLATES), ("POST", "secrets"), ("DELETE", SENSORS), ("GET", CRONS)],
)
def test_a_refusal_of_one_object_leaves_all_others_as_they_are(
    method: str, kind: str, deploy: Deploy, api: ArgoApi, objects: ArgoCluster, on_s3: Callable[..., Manifest]
) -> None:
    deploy("decorated/triggered", name="nightly")
    before = copy.deepcopy(api.objects)
    api.refused.add((method, kind))
    made = compile_flow(on_s3("decorated/nightly"), namespace="flows")
    with pytest.raises(ArgoClusterError, match=f"{kind} is forbidden"):
        apply(made, objects, {"SLACK": "https://hush"})
    assert api.objects == before
    api.refused.clear()
    apply(made, objects, {"SLACK": "https://hush"})
    assert kinds(api) == [(CRONS, "nightly"), ("secrets", "nightly-notify"), (TEMPLATES, "nightly")]


def test_a_webhook_that_takes_no_dry_run_is_asked_when_the_object_is_made(deploy: Deploy, api: ArgoApi) -> None:
    answer = api.answer

    def answered(method: str, url: str, body: Any) -> tuple[int, Any]:
        if "dryRun" in url:
            return error(400, 'admission webhook "hook.argo" does not support dry run')
        return answer(method, url, body)

    api.answer = answered  # type: ignore[method-assign]
    deploy("linear")
    assert kinds(api) == [(TEMPLATES, "linear")]


def test_a_flow_that_lost_its_trigger_loses_its_sensor_wherever_that_is(
    deploy: Deploy, api: ArgoApi, objects: ArgoCluster, on_s3: Callable[..., Manifest]
) -> None:
    deploy("decorated/triggered")
    assert api.get(SENSORS, "triggered", "events") is not None
    manifest = on_s3("decorated/triggered")
    without = msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, triggers=()))
    apply(compile_flow(without, namespace="flows"), objects)
    assert kinds(api) == [(TEMPLATES, "triggered")]


def test_another_deployment_of_the_same_flow_replaces_all_objects(deploy: Deploy, api: ArgoApi) -> None:
    deploy("decorated/triggered")
    deploy("decorated/triggered", tags=("newer",))
    template = api.get(TEMPLATES, "triggered")
    assert template is not None
    assert template["metadata"]["annotations"]["metaflow/tags"] == '["newer"]'
    assert kinds(api) == [(SENSORS, "triggered"), (TEMPLATES, "triggered")]


def test_the_token_of_a_deployment_stands_in_its_template(deploy: Deploy, objects: ArgoCluster) -> None:
    assert TemplateStore(objects, "linear", "LinearFlow").load() == (None, None)
    deploy("linear", owner="bea", production_token="token-7")
    store = TemplateStore(objects, "linear", "LinearFlow")
    assert store.load() == ("bea", "token-7")
    store.save("carl", "token-8")
    assert store.load() == ("bea", "token-7")


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({}, "there is a workflow template 'linear' that was not made from a Metaflow flow"),
        (
            {"metaflow/production_token": "t", "metaflow/owner": "o", "metaflow/flow_name": "OtherFlow"},
            "the workflow template 'linear' holds another flow, 'OtherFlow'",
        ),
    ],
)
def test_a_template_of_something_else_is_left_alone(
    annotations: dict[str, str], told: str, api: ArgoApi, objects: ArgoCluster
) -> None:
    api.put(TEMPLATES, {"metadata": {"name": "linear", "annotations": annotations or None}})
    with pytest.raises(InvalidOptionError, match=told):
        TemplateStore(objects, "linear", "LinearFlow").load()


def test_a_template_that_stock_metaflow_made_is_taken_over_by_its_token(api: ArgoApi, objects: ArgoCluster) -> None:
    notes = {"metaflow/production_token": "t", "metaflow/owner": "o"}
    api.put(TEMPLATES, {"metadata": {"name": "linear", "annotations": notes}})
    assert TemplateStore(objects, "linear", "LinearFlow").load() == ("o", "t")


def test_objects_are_made_for_the_namespace_and_with_the_options_of_create(on_s3: Callable[..., Manifest]) -> None:
    made: dict[str, Any] = make(on_s3("linear"), "flows", priority=4).to_dicts()[0]
    assert made["metadata"]["namespace"] == "flows"
    assert made["spec"]["priority"] == 4
