"""What `check` says of a flow on Argo Workflows: sizes by arithmetic, and the limits of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import msgspec
import pytest

from metaflow_adapters.argo.check import ArgoTarget
from metaflow_adapters.argo.compile import ArgoOptions, checked_deployment
from metaflow_adapters.argo.limits import MAX_OBJECT_BYTES, MAX_WORKFLOW_BYTES, nodes_of, size_of, workflow_size
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.argo.plan.flow import plan_flow
from metaflow_orchestration.check.report import Report, Row, State
from metaflow_orchestration.check.target import check_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError

Make = Callable[..., Manifest]
NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
OPTIONS = ArgoOptions(
    namespace="flows", events=EventSettings(event="event", source="source", account="account", namespace="events")
)


def check(manifest: Manifest, width: int = 10) -> Report:
    return check_manifest(manifest, ArgoTarget(OPTIONS), width, NOW)


def row(report: Report, subject: str) -> Row:
    (found,) = [one for one in report.rows if one.subject == subject]
    return found


@pytest.mark.parametrize(
    ("flow", "width", "pods", "nodes"),
    [
        # Root and three steps.
        ("linear", 5, 3, 4),
        # A group for the splits, and no DAG for a body of one step.
        ("foreach", 5, None, None),
    ],
)
def test_pods_and_nodes_grow_with_the_splits(
    on_s3: Make, flow: str, width: int, pods: int | None, nodes: int | None
) -> None:
    graph = on_s3(flow).graph
    plan = plan_flow(graph)
    narrow, wide, wider = (nodes_of(plan, graph, one) for one in (width, 2 * width, 3 * width))
    if pods is not None:
        assert (narrow.pods, narrow.nodes) == (pods, nodes)
        assert wide == narrow
    else:
        assert wide.pods - narrow.pods == wider.pods - wide.pods > 0
        assert narrow.nodes > narrow.pods


def test_a_wide_run_is_compressed_and_a_wider_one_exceeds_what_argo_keeps(on_s3: Make) -> None:
    manifest = on_s3("foreach")
    template = checked_deployment(manifest, OPTIONS).to_dicts()[0]
    fixed = size_of(template)
    # In plain JSON up to the limit, then less for many more nodes.
    assert fixed < workflow_size(template, 10) < workflow_size(template, 1000) <= MAX_WORKFLOW_BYTES
    assert workflow_size(template, 3000) < workflow_size(template, 1500)
    size = row(check(manifest, 10_000), "workflow")
    assert (size.state, size.limit) == (State.EXCEEDED, MAX_WORKFLOW_BYTES)
    assert "nodeStatusOffLoad" in size.fix
    assert row(check(manifest, 100), "workflow").state is State.OK


def test_the_name_of_a_template_is_said_where_it_is_not_that_of_its_step(on_s3: Make) -> None:
    manifest = on_s3("switch_in_foreach")
    rows = {one.subject: one for one in check(manifest).rows if one.subject.startswith("template of step ")}
    renamed = {step.name for step in manifest.graph.steps if "_" in step.name}
    assert renamed
    assert set(rows) == {f"template of step {name}" for name in renamed}


def test_an_object_that_kubernetes_does_not_store_is_refused_by_check_and_by_create(on_s3: Make) -> None:
    manifest = on_s3("linear")
    huge = msgspec.structs.replace(manifest.graph, doc="x" * MAX_OBJECT_BYTES)
    long = msgspec.structs.replace(manifest.graph, doc="x" * 300_000)
    for graph, reason in ((huge, "Kubernetes stores 1,572,864"), (long, "Kubernetes takes 262,144")):
        changed = msgspec.structs.replace(manifest, graph=graph)
        (refusal,) = check(changed).rows
        assert refusal.state is State.REFUSED
        assert reason in refusal.found
        with pytest.raises(InvalidOptionError, match=reason):
            checked_deployment(changed, OPTIONS)


def test_what_a_scheduled_flow_needs_and_when_it_runs_is_said(on_s3: Make) -> None:
    report = check(on_s3("decorated/nightly"))
    assert row(report, "next runs").document == {
        "expression": "30 6 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "next": [f"2026-{day} 06:30+01:00" for day in ("11-30", "12-01", "12-02", "12-03", "12-04")],
    }
    roles = {one.document["resources"][0] for one in report.rows if one.subject == "role of the deployer"}
    assert roles == {"workflowtemplates", "cronworkflows"}
    assert row(report, "cron workflow").limit == 52


def test_a_flow_that_waits_for_events_needs_a_sensor_and_who_may_run_it(on_s3: Make) -> None:
    report = check(on_s3("decorated/on_finish"))
    assert row(report, "service account of sensors").found.startswith("account,")
    assert row(report, "event bus").found == "default"
    assert any(one.subject == "sensor" for one in report.rows)


def test_pods_need_the_secrets_and_volumes_that_their_decorators_name(on_s3: Make) -> None:
    found = {(one.subject, one.found) for one in check(on_s3("decorated/pods")).rows if one.topic.value == "need"}
    kinds = {subject for subject, _ in found}
    assert {"image", "Kubernetes namespace", "role of pods"} <= kinds
