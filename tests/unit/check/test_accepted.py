"""Random flows: what `check` accepts deploys, and what it refuses does not, on all three orchestrators."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.serialization.serialized_objects import DagSerialization
from hera.workflows import models as m
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.support.argo_api import argo_api
from tests.support.aws_account import QUEUE, Account, aws_account
from tests.support.aws_account import SETTINGS as AWS
from tests.support.random_flows import bodies, flow_source, random_graph
from tests.support.recorded import CODE, ROOT, on_s3

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.plan.checked import AirflowTarget
from metaflow_adapters.argo import ArgoDeployment
from metaflow_adapters.argo.check import ArgoTarget
from metaflow_adapters.argo.cluster.client import ArgoCluster
from metaflow_adapters.argo.compile import ArgoOptions, checked_deployment
from metaflow_adapters.argo.deploy import apply
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.check import StepFunctionsTarget
from metaflow_adapters.step_functions.compile import StepFunctionsOptions, machine_from
from metaflow_orchestration.check.report import Report, State
from metaflow_orchestration.check.target import check_manifest
from metaflow_orchestration.documents.manifest import Command, Deployment, Manifest, encode_manifest
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.model import (
    Decorator,
    EventTrigger,
    ExitHook,
    FlowGraph,
    Parameter,
    ParameterType,
    Retry,
    Schedule,
    Step,
)
from metaflow_orchestration.graph.validate import validate_graph

EXAMPLES = 80
SHAPES = 20
NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
ARGO = ArgoOptions(
    namespace="flows", events=EventSettings(event="event", source="source", account="account", namespace="events")
)
SFN = StepFunctionsOptions(settings=AWS, queue=QUEUE)

NAMES = ("flow", "a.b-c", "With_Underscore", "x" * 45, "x" * 46, "x" * 80, "x" * 81, "y" * 250, "y" * 251, "bad name")
CRONS = (
    "0 9 * * *", "*/5 * ? * MON-FRI *", "0 9 15W * ? *", "0 9 L * ? *", "0 9 ? * 6#2 *", "0 9 1 * MON",
    "0 9 * * ? 2030", "61 9 * * *", "0 9 * *", "0 0 31 2 *", "0 9 ? * ? *", "a b c d e",
)  # fmt: skip
ZONES = (None, "UTC", "Europe/Berlin", "Mars/Olympus")
EVENTS = ("file", "data ready", "ä" * 100, "é" * 300, "a.b/c?d#e", "x" * 1600, "'quoted'", "{{workflow.name}}")
ATTRIBUTES: tuple[dict[str, Any], ...] = (
    {}, {}, {"cpu": "2"}, {"memory": "100"}, {"image": None}, {"unheard_of": "yes"},
    {"labels": {"a": "{{workflow.name}}"}},
    {"namespace": "elsewhere"}, {"queue": None}, {"use_tmpfs": True}, {"secrets": ["one", "two"]},
)  # fmt: skip
TAGS = ("nightly", "a:b", "t" * 100, "t" * 101)
PARAMETERS = ("alpha", "some-thing", "json", "metaflow-origin", "Beta_2")


@dataclass(frozen=True)
class Drawn:
    """One random flow with what a user may have said of it."""

    source: str
    manifest: Manifest


many = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

_ODDITIES = ("name", "schedule", "events", "compute", "parameters", "tags", "hook")


@cache
def shapes() -> tuple[tuple[str, FlowGraph], ...]:
    """Sources and graphs, the same on each run: Hypothesis derives them from the code of `collect`."""
    found: dict[str, tuple[str, FlowGraph]] = {}

    @settings(many, max_examples=4 * SHAPES, phases=[Phase.generate])
    @given(body=bodies(gangs=True, most_tasks=40))
    def collect(body: list[Any]) -> None:
        if str(body) not in found and len(found) < SHAPES:
            name = f"CheckedFlow{len(found)}"
            source = flow_source(name, body)
            found[str(body)] = source, random_graph(name, source)

    collect()
    return tuple(found.values())


@st.composite
def flows(draw: st.DrawFn) -> Drawn:
    replace = msgspec.structs.replace
    source, graph = draw(st.sampled_from(shapes()))
    odd = draw(st.sets(st.sampled_from(_ODDITIES), max_size=3))
    name, tags = graph.name.lower(), []
    compute: dict[str, tuple[str, dict[str, Any]]] = {}
    if "schedule" in odd:
        schedules = st.builds(Schedule, cron=st.sampled_from(CRONS), timezone=st.sampled_from(ZONES))
        graph = replace(graph, schedule=draw(schedules))
    if "events" in odd:
        names = draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=2, unique=True))
        reset = draw(st.sampled_from((None, None, Schedule(cron="0 0 * * *"))))
        graph = replace(graph, triggers=tuple(EventTrigger(event=one) for one in names), trigger_reset=reset)
    if "parameters" in odd:
        drawn = draw(st.lists(parameters(), min_size=1, max_size=3, unique_by=lambda one: one.name))
        graph = replace(graph, parameters=tuple(drawn))
    if "hook" in odd:
        length = draw(st.sampled_from((5, 200, 240)))
        graph = replace(graph, exit_hooks=(ExitHook(function="h" * length, on_success=draw(st.booleans())),))
    if "tags" in odd:
        tags = draw(st.lists(st.sampled_from(TAGS), min_size=1, max_size=2))
    if "compute" in odd:
        chosen = draw(st.tuples(st.sampled_from(("kubernetes", "batch")), st.sampled_from(ATTRIBUTES)))
        compute = {draw(st.sampled_from(graph.steps)).name: chosen}
    if "name" in odd:
        name = draw(st.sampled_from(NAMES))
    retry = Retry(user=draw(st.integers(0, 2)))
    return Drawn(source, manifest_of(replace(graph, steps=steps_of(graph, compute, retry)), name, tuple(tags)))


def parameters() -> st.SearchStrategy[Parameter]:
    made: st.SearchStrategy[Parameter] = st.builds(
        Parameter,
        name=st.sampled_from(PARAMETERS),
        variable=st.just("value"),
        type=st.sampled_from((ParameterType.INT, ParameterType.BOOL, ParameterType.STR, ParameterType.JSON)),
        default=st.just("1"),
        required=st.booleans(),
        help=st.sampled_from(("", "what it is", "{{workflow.name}}")),
    )
    return made


def steps_of(graph: FlowGraph, compute: dict[str, tuple[str, dict[str, Any]]], retry: Retry) -> tuple[Step, ...]:
    found = []
    for step in graph.steps:
        more: dict[str, Any] = {"retry": retry} if step.name == graph.start else {}
        if step.name in compute:
            name, attributes = compute[step.name]
            bare = on_s3(bare_manifest(graph, "flow", ()), "flow").remote["compute_defaults"][name]
            more["decorators"] = (*step.decorators, Decorator(name=name, attributes={**bare, **attributes}))
        found.append(msgspec.structs.replace(step, **more))
    return tuple(found)


def bare_manifest(graph: FlowGraph, name: str, tags: tuple[str, ...]) -> Manifest:
    deployment = Deployment(name=name, owner="ann", production_token="token-1", tags=tags)
    command = Command(top_level=(), environment={}, datastore_root=ROOT, metadata="local")
    return Manifest(graph=graph, deployment=deployment, code=CODE, command=command)


def manifest_of(graph: FlowGraph, name: str, tags: tuple[str, ...]) -> Manifest:
    return on_s3(bare_manifest(graph, name, tags), "flow", name=name)


@contextmanager
def shown(drawn: Drawn, report: Report) -> Iterator[None]:
    """Show a flow for which check and deployment do not agree."""
    try:
        yield
    except BaseException:
        print(drawn.source, drawn.manifest.deployment, report.rows[:2], sep="\n", file=sys.stderr)
        raise


def assert_both_kinds(seen: Counter[bool]) -> None:
    """A property that only ever saw one side would say nothing about the other."""
    assert min(seen[True], seen[False]) >= EXAMPLES // 20, seen


def test_what_check_accepts_for_airflow_imports_and_what_it_refuses_does_not(tmp_path: Path) -> None:
    path = tmp_path / "flow.metaflow.json"
    seen: Counter[bool] = Counter()

    @many
    @given(flows())
    def agree(drawn: Drawn) -> None:
        report = check_manifest(drawn.manifest, AirflowTarget(), 3, NOW)
        seen[report.is_supported("airflow")] += 1
        with shown(drawn, report):
            path.write_bytes(encode_manifest(drawn.manifest))
            if report.is_supported("airflow"):
                dag = MetaflowDag(path)
                dag.timetable.validate()
                dag.validate()
                read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
                assert {step.name for step in drawn.manifest.graph.steps} <= set(read.task_dict)
            else:
                assert_refused(report)
                with pytest.raises(MetaflowProviderError):
                    MetaflowDag(path)

    agree()
    assert_both_kinds(seen)


def test_what_check_accepts_for_argo_deploys_and_what_it_refuses_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[bool] = Counter()
    with argo_api(tmp_path) as (served, file):
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        cluster = ArgoCluster("flows")

        @many
        @given(flows())
        def agree(drawn: Drawn) -> None:
            report = check_manifest(drawn.manifest, ArgoTarget(ARGO), 3, NOW)
            seen[report.is_supported("argo")] += 1
            with shown(drawn, report):
                if report.is_supported("argo"):
                    made = deployment_of(drawn.manifest)
                    m.WorkflowTemplate.model_validate(made.to_dicts()[0])
                    apply(made, cluster)
                    assert served.get("workflowtemplates", drawn.manifest.deployment.name)
                else:
                    assert_refused(report)
                    with pytest.raises(MetaflowProviderError):
                        deployment_of(drawn.manifest)

        agree()
    assert_both_kinds(seen)


@pytest.mark.extended
def test_what_check_accepts_for_step_functions_deploys_and_what_it_refuses_does_not(tmp_path: Path) -> None:
    seen: Counter[bool] = Counter()
    with aws_account(tmp_path) as account:

        @settings(many, max_examples=EXAMPLES // 2)
        @given(flows())
        def agree(drawn: Drawn) -> None:
            report = check_manifest(drawn.manifest, StepFunctionsTarget(SFN), 3, NOW)
            seen[report.is_supported("step-functions")] += 1
            with shown(drawn, report):
                if not report.is_supported("step-functions"):
                    assert_refused(report)
                    with pytest.raises(MetaflowProviderError):
                        # Its first steps are those of `create`; nobody has any permission.
                        machine_of(drawn.manifest).deploy(account.aws())
                elif any(row.state is State.EXCEEDED and row.subject.startswith("policy of ") for row in report.rows):
                    with pytest.raises(AssertionError, match="IAM takes"):
                        deploy(account, drawn.manifest)
                else:
                    deploy(account, drawn.manifest)

        agree()
    assert_both_kinds(seen)


def deployment_of(manifest: Manifest) -> ArgoDeployment:
    validate_graph(manifest.graph)
    return checked_deployment(manifest, ARGO)


def machine_of(manifest: Manifest) -> FlowMachine:
    validate_graph(manifest.graph)
    return machine_from(manifest, SFN)


def deploy(account: Account, manifest: Manifest) -> None:
    machine = machine_of(manifest)
    assert account.deploy(machine).endswith(f":{machine.name}")


def assert_refused(report: Report) -> None:
    (row,) = [row for row in report.rows if row.state is State.REFUSED]
    assert row.found
    assert row.fix
    assert report.exit_code == 1
