"""Two hundred random legal graphs on all three targets, in this process: plans, objects, and a run of each, played."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.serialization.serialized_objects import DagSerialization
from hera.workflows import models as m
from hypothesis import HealthCheck, Phase, given, settings
from tests.support.airflow_play import play_airflow
from tests.support.argo_play import play_argo
from tests.support.plays import assert_same_tasks, played
from tests.support.random_flows import Block, bodies, flow_source, random_graph
from tests.support.recorded import CODE, ROOT, on_s3
from tests.support.step_functions_play import play_step_functions

from airflow_provider_metaflow import MetaflowDag
from metaflow_adapters.argo import compile_flow as compile_for_argo
from metaflow_adapters.sources import sources_of, walked_steps
from metaflow_adapters.step_functions import compile_flow as compile_for_step_functions
from metaflow_adapters.step_functions.plan.flow import plan_flow
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import Finder
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Command, Deployment, Manifest, encode_manifest
from metaflow_orchestration.graph.model import FlowGraph, Retry, Step, StepKind
from metaflow_orchestration.graph.validate import validate_graph

GRAPHS = 200
_FAN: Block = ("foreach", 2, [("line",)])
HARD: list[list[Block]] = [
    # A split of a foreach may leave out a foreach of its own, and so may all of them.
    [("foreach", 2, [("switch", 0, [[("line",)], [_FAN]])])],
    [("foreach", 2, [("switch", 1, [[("switch", 0, [[_FAN], []])], [_FAN]]), _FAN])],
    [("foreach", 2, [("foreach", 2, [("switch", 0, [[_FAN], [("loop", 2)]])]), ("split", [[_FAN], [("gang",)]])])],
    [("split", [[("switch", 0, [[("gang",)], [_FAN]])], [("foreach", 3, [("split", [[_FAN], []])])]])],
    [("switch", 0, [[("foreach", 1, [("foreach", 1, [_FAN])])], [("split", [[("loop", 3)], [("gang",)]])]])],
]
"""Shapes that chance seldom makes."""

SETTINGS = AwsSettings(machine_role="arn:aws:iam::1:role/m", events_role="arn:aws:iam::1:role/e", region="eu-west-1")


@dataclass(frozen=True)
class Case:
    """A random flow."""

    name: str
    source: str
    manifest: Manifest

    @property
    def graph(self) -> FlowGraph:
        return self.manifest.graph


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """The same on each run: Hypothesis derives them from the code of `collect`."""
    found: dict[str, Case] = {}

    def add(body: list[Block]) -> None:
        name = f"RandomFlow{len(found)}"
        source = flow_source(name, body)
        found[str(body)] = Case(name, source, manifest_of(with_retries(random_graph(name, source))))

    @settings(
        max_examples=2 * GRAPHS,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=bodies(gangs=True, most_tasks=50))
    def collect(body: list[Block]) -> None:
        if str(body) not in found and len(found) < GRAPHS:
            add(body)

    collect()
    for body in HARD:
        add(body)
    return list(found.values())


def with_retries(graph: FlowGraph) -> FlowGraph:
    """Let steps differ in how often they are tried again."""
    kinds = (Retry(), Retry(user=2, delay_seconds=30.0), Retry(user=1, error=1), Retry(error=1))
    steps = tuple(
        msgspec.structs.replace(step, retry=kinds[number % len(kinds)]) for number, step in enumerate(graph.steps)
    )
    return msgspec.structs.replace(graph, steps=steps)


def manifest_of(graph: FlowGraph) -> Manifest:
    deployment = Deployment(name=graph.name.lower(), owner="ann", production_token="token-1", max_workers=7)
    command = Command(top_level=(), environment={}, datastore_root=ROOT, metadata="local")
    made = Manifest(graph=graph, deployment=deployment, code=CODE, command=command)
    return on_s3(made, graph.name.lower(), name=graph.name.lower())


@contextmanager
def shown(case: Case) -> Iterator[None]:
    """Show the source of a flow that fails."""
    try:
        yield
    except BaseException:
        print(case.source, file=sys.stderr)
        raise


def test_there_are_enough_graphs_of_every_kind(cases: list[Case]) -> None:
    assert len(cases) == GRAPHS + len(HARD)
    kinds = Counter(step.kind for case in cases for step in case.graph.steps)
    assert all(kinds[kind] >= 20 for kind in StepKind), kinds
    steps = [step for case in cases for step in case.graph.steps]
    assert sum(step.recursive for step in steps) >= 20
    assert sum(len(step.foreach_path) > 1 for step in steps) >= 20


@pytest.mark.subprocess
def test_a_graph_that_is_read_in_this_process_is_the_one_that_the_compiler_reads(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = max(cases, key=lambda one: len({step.kind for step in one.graph.steps}))
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    path = tmp_path / "flow_in_file.py"
    path.write_text(case.source)
    compiled = load_manifest(path, CompileOptions(python=sys.executable), tmp_path)
    assert msgspec.to_builtins(with_retries(compiled.graph)) == msgspec.to_builtins(case.graph)


def test_every_graph_passes_the_checks_and_survives_its_manifest(cases: list[Case]) -> None:
    for case in cases:
        with shown(case):
            validate_graph(case.graph)
            read = msgspec.json.decode(msgspec.json.encode(case.manifest), type=Manifest)
            assert read == case.manifest


def test_containers_find_the_tasks_that_lead_to_them(cases: list[Case]) -> None:
    for case in cases:
        with shown(case):
            graph, play = case.graph, played(case.graph, seed=1)
            for (name, path, iteration), expected in play.inputs.items():
                if name != graph.start and not iteration:
                    step = graph.step(name)
                    finder = Finder(lambda *key, play=play: play.outcomes.get(key), walked_steps(graph, step))
                    assert finder.inputs(name, sources_of(graph, step) or {}, path) == expected, (name, path)


# Airflow


def dag_of(case: Case, folder: Path) -> tuple[Any, dict[str, Any]]:
    path = folder / f"{case.name}.metaflow.json"
    path.write_bytes(encode_manifest(case.manifest))
    serialized = DagSerialization.to_dict(MetaflowDag(path))
    return DagSerialization.from_dict(json.loads(json.dumps(serialized))), serialized


def test_airflow_runs_each_task_once_and_after_those_that_lead_to_it(cases: list[Case], tmp_path: Path) -> None:
    for number, case in enumerate(cases):
        with shown(case):
            dag, serialized = dag_of(case, tmp_path)
            assert_airflow_dag(case, dag)
            for seed in range(4):
                play = played(case.graph, seed)
                assert_same_tasks(play, play_airflow(dag, play, seed))
            if not number % 10:
                assert dag_of(case, tmp_path)[1] == serialized


def assert_airflow_dag(case: Case, dag: Any) -> None:
    tasks = {task.task_id: task for task in dag.tasks}
    steps = {step.name: step for step in case.graph.steps}
    nested = {f"{step.name}-splits" for step in steps.values() if step.kind is StepKind.FOREACH and step.foreach_path}
    assert tasks.keys() == steps.keys() | nested
    assert len(dag.tasks) == len(tasks)
    for step in steps.values():
        task = tasks[step.name]
        assert task.retries == step.retry.user + step.retry.error
        for parent in step.parents:
            assert parent in before(tasks, step.name), f"{step.name} does not wait for {parent}"
        assert bool(step.foreach_path) == (task.get_closest_mapped_task_group() is not None)
    assert dag.max_active_tasks == 7


def before(tasks: dict[str, Any], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        following = tasks[waiting.pop()].upstream_task_ids - found
        found |= following
        waiting += following
    return found


# Argo


def test_argo_runs_each_task_once_and_after_those_that_lead_to_it(cases: list[Case]) -> None:
    for number, case in enumerate(cases):
        with shown(case):
            kind = ("jobset", "job")[number % 2]
            deployment = compile_for_argo(case.manifest, namespace="flows", gang=kind)
            documents = deployment.to_dicts()
            assert_argo_template(case, documents[0])
            for seed in range(2):
                play = played(case.graph, seed)
                assert_same_tasks(play, play_argo(documents, play))
            if not number % 10:
                again = compile_for_argo(case.manifest, namespace="flows", gang=kind)
                assert again.to_yaml() == deployment.to_yaml()


def assert_argo_template(case: Case, document: dict[str, Any]) -> None:
    m.WorkflowTemplate.model_validate(document)
    spec = document["spec"]
    assert spec["parallelism"] == 7
    assert (document["kind"], spec["entrypoint"]) == ("WorkflowTemplate", case.name)
    templates = {one["name"]: one for one in spec["templates"]}
    for name in templates:
        assert name.replace("-", "").isalnum(), f"Argo takes no template {name!r}"
    by_step = {one["metadata"]["labels"]["metaflow/step"]: one for one in templates.values() if is_task(one)}
    assert sorted(by_step) == sorted(step.name for step in case.graph.steps)
    for step in case.graph.steps:
        assert_argo_step(step, by_step[step.name])
    used = {task["template"] for one in templates.values() for task in inner(one)} | {spec["entrypoint"]}
    assert used == templates.keys(), "a template is missing, or not used"


def is_task(template: dict[str, Any]) -> bool:
    return "container" in template or "resource" in template


def inner(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template.get("dag", {}).get("tasks", []), *(one for group in template.get("steps", []) for one in group)]


def assert_argo_step(step: Step, template: dict[str, Any]) -> None:
    retries = step.retry.user + step.retry.error
    strategy = template.get("retryStrategy")
    assert bool(strategy) == bool(retries)
    if strategy:
        assert (strategy["limit"], strategy["retryPolicy"]) == (retries, "Always")
        assert strategy["expression"] == "asInt(lastRetry.exitCode) != 202"
        assert strategy.get("backoff") == ({"duration": "30s"} if step.retry.delay_seconds else None)
    told = {StepKind.FOREACH: "splits", StepKind.PARALLEL: "nodes", StepKind.SWITCH: "next"}.get(step.kind)
    outputs = [one["name"] for one in template.get("outputs", {}).get("parameters", [])]
    assert outputs == ([told] if told else [])


# Step Functions


@pytest.mark.parametrize("options", [{}, {"max_workers": 3}, {"distributed": True}], ids=str)
def test_step_functions_runs_each_task_once_and_after_those_that_lead_to_it(
    options: dict[str, Any], cases: list[Case]
) -> None:
    for case in cases:
        with shown(case):
            plan = plan_flow(case.graph, **options)
            for seed in range(2):
                play = played(case.graph, seed)
                assert_same_tasks(play, play_step_functions(plan, play, seed))


def test_state_machines_are_whole(cases: list[Case]) -> None:
    for number, case in enumerate(cases):
        with shown(case):
            made = compile_for_step_functions(case.manifest, settings=SETTINGS)
            definition = json.loads(made.to_json())
            names: list[str] = []
            assert_scope(definition, names)
            assert len(set(names)) == len(names), "two states have one name"
            assert {step.name for step in case.graph.steps} <= set(names)
            assert len(json.dumps(definition)) < 1024 * 1024
            if not number % 10:
                assert compile_for_step_functions(case.manifest, settings=SETTINGS).to_json() == made.to_json()


def assert_scope(scope: dict[str, Any], names: list[str]) -> None:
    """See that every state of a scope is reached and leads somewhere (Amazon States Language)."""
    states = scope["States"]
    names += states
    reached, waiting = set(), [scope["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        state = states[name]
        rules = [*state.get("Choices", []), *state.get("Catch", [])]
        ways = [one["Next"] for one in (state, *rules) if "Next" in one]
        ways += [state["Default"]] if "Default" in state else []
        assert ways or state.get("End") or state["Type"] in ("Succeed", "Fail"), f"{name} leads nowhere"
        assert not (state.get("End") and "Next" in state)
        waiting += ways
    assert reached == states.keys(), "a state is not reached"
    for state in states.values():
        for one in (*state.get("Branches", ()), *([state["ItemProcessor"]] if "ItemProcessor" in state else [])):
            assert_scope(one, names)
