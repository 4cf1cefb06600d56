"""A run succeeds only if each chosen step's code ran, on the right inputs, since its last clear, whatever happens.

A state machine of Hypothesis does to a run what schedulers and users do to it: tries that end well and badly, workers
that die, clears before, during and after a task, marks, deleted XComs, redeployments, a run that is made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from airflow.sdk import DAG
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from tests.harness.measured import unmeasured
from tests.support.random_flows import Block, bodies, flow_source, random_graph
from tests.support.recorded import CODE, ROOT
from tests.support.run_life import Key, LivingMetaflow, LivingRun, step_of

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.documents.manifest import Command, Deployment, Manifest, encode_manifest
from metaflow_orchestration.graph.model import FlowGraph, Parameter, ParameterType, Retry, Step, StepKind
from metaflow_orchestration.run.commands import StepCall

SEQUENCES = int(os.environ.get("TEST_RUN_LIVES", "150"))
"""`make test` plays 2,000."""

GRAPHS = 60
_NUMBER = Parameter(name="number", variable="number", type=ParameterType.STR, default="none")
_RETRIES = (Retry(), Retry(error=1), Retry(user=1), Retry(user=1, error=1))


def _retry_of(step: Step, number: int) -> Retry:
    retry = _RETRIES[number % 4]
    # Metaflow refuses `@catch` for these, whose fallback could not say what comes next.
    return replace(retry, error=0) if step.kind in (StepKind.FOREACH, StepKind.PARALLEL, StepKind.SWITCH) else retry


@cache
def _graphs() -> list[FlowGraph]:
    """Return random legal graphs, the same on each run, whose steps differ in their retries."""
    found: dict[str, FlowGraph] = {}

    @settings(
        max_examples=GRAPHS * 2,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=bodies(gangs=True, most_tasks=14))
    def collect(body: list[Block]) -> None:
        if str(body) not in found and len(found) < GRAPHS:
            graph = random_graph("LivingFlow", flow_source("LivingFlow", body))
            steps = tuple(
                replace(step, retry=_retry_of(step, number + len(found))) for number, step in enumerate(graph.steps)
            )
            found[str(body)] = replace(graph, steps=steps, parameters=(_NUMBER,))

    collect()
    return list(found.values())


def _manifest(graph: FlowGraph, code: str) -> Manifest:
    return Manifest(
        graph=graph,
        deployment=Deployment(name="living", owner="ann", production_token="token-1", max_workers=7),
        code=replace(CODE, sha=code * 40, url=f"{ROOT}/LivingFlow/data/{code * 2}/{code * 40}"),
        command=Command(top_level=(), environment={}, datastore_root=ROOT, metadata="local"),
    )


_FOLDER = TemporaryDirectory(prefix="run-life-")


@cache
def _dag(number: int, code: str, retries: int | None, longer: bool) -> DAG:
    graph = _graphs()[number]
    if longer:
        graph = _with_another_step(graph)
    path = Path(_FOLDER.name) / f"{number}-{code}-{retries}-{longer}.metaflow.json"
    path.write_bytes(encode_manifest(_manifest(graph, code)))
    overrides: dict[str, Any] = {} if retries is None else {step.name: {"retries": retries} for step in graph.steps}
    return MetaflowDag(path, step_overrides=overrides)


def _with_another_step(graph: FlowGraph) -> FlowGraph:
    """Return the graph with a step `extra` before its end."""
    end = graph.step(graph.end)
    extra = Step(name="extra", kind=StepKind.LINEAR, next_steps=(end.name,), parents=end.parents)
    steps = []
    for step in graph.steps:
        if step.name == end.name:
            steps += [extra, replace(step, parents=("extra",))]
        else:
            following = tuple("extra" if name == end.name else name for name in step.next_steps)
            steps.append(replace(step, next_steps=following))
    return replace(graph, steps=tuple(steps))


_ENDS = (
    "ok", "ok", "ok", "ok", "fails", "fails", "dies", "finished unseen", "cleared", "finished and cleared",
    "fails for good",
)  # fmt: skip


class RunLife(RuleBasedStateMachine):
    """One DAG run."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.metaflow = LivingMetaflow()
        self.metaflow.install(self.patch)
        self.metaflow.check_inputs = self.check_inputs  # type: ignore[assignment]
        self.metaflow.check_parameters = self.check_parameters  # type: ignore[assignment]
        self.earlier_runs: set[str] = set()
        self.made = 1
        """How often the run was made."""

    def teardown(self) -> None:
        self.patch.undo()

    @initialize(number=st.integers(0, GRAPHS - 1))
    def starts(self, number: int) -> None:
        self.number, self.code, self.retries, self.longer = number, "a", None, False
        self.run = LivingRun(self.dag(), self.metaflow, conf=self.conf(1))

    @staticmethod
    def conf(number: int) -> dict[str, str]:
        """Return what a run is started with; each other one leaves the default."""
        return {"number": str(number)} if number % 2 else {}

    def dag(self) -> DAG:
        return _dag(self.number, self.code, self.retries, self.longer)

    # What may happen.

    @precondition(lambda self: self.run.ready())
    @rule(data=st.data(), ends=st.sampled_from(_ENDS))
    def a_task_is_tried(self, data: st.DataObject, ends: str) -> None:
        self.run.one_try(data.draw(st.sampled_from(self.run.ready())), ends)

    @precondition(lambda self: self.run.ready())
    @rule(data=st.data(), ends=st.sampled_from(_ENDS))
    def another_task_is_tried(self, data: st.DataObject, ends: str) -> None:
        # Once more, so that more is run than undone.
        self.run.one_try(data.draw(st.sampled_from(self.run.ready())), ends)

    @precondition(lambda self: self.run.ready())
    @rule(most=st.integers(2, 12))
    def several_tasks_succeed(self, most: int) -> None:
        for _ in range(most):
            for key in self.run.ready()[:1]:
                self.run.one_try(key, "ok")

    @precondition(lambda self: self.tried())
    @rule(data=st.data(), downstream=st.booleans(), another_mind=st.booleans())
    def a_task_is_cleared(self, data: st.DataObject, downstream: bool, another_mind: bool) -> None:
        key = data.draw(st.sampled_from(self.tried()))
        self.run.clear(*(self.run.with_downstream(key) if downstream else [key]))
        # What a switch chooses, or how wide a foreach is, may change only where all that follows is run again.
        if another_mind and downstream and key[0] == self.graph().start:
            self.metaflow.mind += 1

    @precondition(lambda self: self.tried())
    @rule(data=st.data(), state=st.sampled_from(["success", "failed"]))
    def a_task_is_marked(self, data: st.DataObject, state: str) -> None:
        self.run.mark(data.draw(st.sampled_from(self.tried())), state)

    @rule()
    def the_xcoms_are_deleted(self) -> None:
        self.run.delete_xcoms()

    @rule(retries=st.sampled_from([None, 0, 1, 3]), code=st.sampled_from("ab"))
    def it_is_deployed_with_other_retries(self, retries: int | None, code: str) -> None:
        self.retries, self.code = retries, code
        self.run.dag = self.dag()

    @precondition(lambda self: not self.longer)
    @rule()
    def it_is_deployed_with_another_graph(self) -> None:
        self.longer = True
        self.run.dag = self.dag()

    @rule()
    def it_is_made_again(self) -> None:
        self.earlier_runs |= {call.run_id for call in self.metaflow.calls}
        began = self.run.began
        self.made += 1
        self.run = LivingRun(self.dag(), self.metaflow, conf=self.conf(self.made))
        self.run.began = began.replace(year=began.year + 1)

    # What must hold.

    def graph(self) -> FlowGraph:
        return next(iter(self.run.dag.task_dict.values())).manifest.graph  # type: ignore[union-attr,no-any-return]

    def tried(self) -> list[Key]:
        return sorted(key for key, tries in self.run.tries.items() if tries and self.run.states[key] != "removed")

    def check_inputs(self, call: StepCall) -> None:
        """Every input is the newest result of a task that Airflow counts as successful, and none is left out."""
        assert call.run_id not in self.earlier_runs, f"{call} works for a run that was deleted"
        if call.step.name == self.graph().start:
            return
        given = [one.partition("/")[2] for one in call.inputs]
        assert all(one.startswith(f"{call.run_id}/") for one in call.inputs), call.inputs
        if _round(call.task_id):
            assert given == [f"{call.step.name}/{self.round_before(call)}"], call
            return
        expected = self.expected_inputs(call)
        assert sorted(given) == sorted(expected), f"{call.step.name}/{call.task_id} gets {given}, not {expected}"

    def check_parameters(self, call: StepCall, seen: dict[str, str]) -> None:
        """Each task sees the parameters of this run, and `_parameters` holds them."""
        own = {"number": self.run.conf.get("number", "none")}
        assert self.metaflow.stored[call.run_id] == own, f"_parameters of {call.run_id} are not those of this run"
        assert seen == own, f"{call.step.name}/{call.task_id} sees {seen}, not {own}"

    def round_before(self, call: StepCall) -> str:
        """Return the task of the round before, which ran since the last clear and was not the last one."""
        path, number = _path(call.task_id), _round(call.task_id) - 1
        ran = {
            task: one.at
            for (step, run, task), one in self.metaflow.ran_last.items()
            if (step, run, _path(task), _round(task)) == (call.step.name, call.run_id, path, number)
        }
        assert ran, f"{call} comes before round {number}"
        newest = max(ran, key=lambda task: ran[task])
        (index,) = [one for one, paths in self.paths_of_instances(call.step, call.run_id) if path in paths]
        assert ran[newest] > self.run.cleared_at.get((call.step.name, index), 0), f"{call} takes an old round"
        _, document = self.metaflow.results[call.step.name, call.run_id, newest]
        assert document["next"] == [call.step.name], f"{call} comes after the last round"
        return newest

    def expected_inputs(self, call: StepCall) -> list[str]:
        path = _path(call.task_id)
        found = []
        for name in call.step.parents:
            parent = self.graph().step(name)
            for of_parent, task, document in self.newest(parent, call.run_id):
                depth = min(len(path), len(of_parent))
                if call.step.name in document["next"] and path[:depth] == of_parent[:depth]:
                    found += [f"{name}/{one}" for one in document.get("gang") or (task,)]
        return found

    def newest(
        self, step: Step, run_id: str, *, in_any_state: bool = False
    ) -> Iterator[tuple[tuple[int, ...], str, dict[str, Any]]]:
        """Yield the tasks of a step that count now: index path, last task id, outcome document."""
        last: dict[tuple[int, ...], tuple[int, str, dict[str, Any]]] = {}
        for (name, run, task), (_, document) in self.metaflow.results.items():
            if (name, run) == (step.name, run_id):
                at = self.metaflow.ran_last[name, run, task].at
                last[_path(task)] = max(
                    last.get(_path(task), (0, "", {})), (at, task, document), key=lambda one: one[0]
                )
        for index, paths in self.paths_of_instances(step, run_id):
            if in_any_state or self.run.states.get((step.name, index)) == "success":
                yield from ((path, *last[path][1:]) for path in paths if path in last)

    def paths_of_instances(self, step: Step, run_id: str) -> list[tuple[int, list[tuple[int, ...]]]]:
        """Return the index paths of each task instance of a step."""
        if not step.foreach_path:
            return [(-1, [()])]
        opener = self.graph().step(step.foreach_path[-1])
        paths = [
            (*path, split)
            for path, _, document in sorted(self.newest(opener, run_id, in_any_state=True), key=lambda one: one[0])
            for split in range(document.get("num_splits") or 0)
        ]
        return [(index, [path]) for index, path in enumerate(paths)]

    @invariant()
    def a_run_that_succeeds_has_done_its_work(self) -> None:
        if not hasattr(self, "run") or self.run.state() != "success":
            return
        for key, state in self.run.states.items():
            step = step_of(self.run, key)
            if state != "success" or step is None or key in self.run.by_hand:
                continue
            assert self.ran_since_clear(step, key), f"{key} succeeded, but its code has not run since it was cleared"
        end = (self.graph().end, -1)
        assert self.run.states.get(end) == "success", "a run without its end succeeded"

    def ran_since_clear(self, step: Step, key: Key) -> bool:
        """Tell whether the newest result of a task instance is of code, or of a fallback for code, that ran."""
        cleared = self.run.cleared_at.get(key, 0)
        runs = [call.run_id for call in self.metaflow.calls if call.run_id not in self.earlier_runs]
        at = dict(self.paths_of_instances(step, runs[-1])).get(key[1], [])
        for path in at:
            ran = [
                (one, name)
                for name, one in self.metaflow.ran_last.items()
                if name[:2] == (step.name, runs[-1]) and _path(name[2]) == path
            ]
            if not ran:
                return False
            newest, name = max(ran, key=lambda one: one[0].at)
            since = newest.at > cleared
            if not (since and (newest.user_code or self.metaflow.failed_at.get(name, 0) > cleared)):
                return False
        return True

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        assert not hasattr(self, "run") or self.run.state() != "stuck", self.run.states


def _path(task_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in task_id.split("-")[1:] if part.isdigit())


def _round(task_id: str) -> int:
    """Return the round of a recursive switch, 0 for the first and for tasks of other steps."""
    return next((int(part[1:]) for part in task_id.split("-")[2:] if part[0] == "r" and part[1:].isdigit()), 0)


def test_a_run_succeeds_only_if_its_work_was_done_whatever_happens_to_it() -> None:
    chosen = settings(
        max_examples=SEQUENCES,
        stateful_step_count=30,
        deadline=None,
        database=None,
        derandomize=True,
        # Shrinking takes minutes: TEST_RUN_LIVES_SHRINK=1.
        phases=[Phase.generate, *([Phase.shrink] if os.environ.get("TEST_RUN_LIVES_SHRINK") else [])],
        suppress_health_check=list(HealthCheck),
    )
    with unmeasured():
        run_state_machine_as_test(RunLife, settings=chosen)  # type: ignore[no-untyped-call]
