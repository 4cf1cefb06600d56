"""The life of one DAG run on a model of Airflow's scheduler, with our operators' own `execute` and Metaflow in memory.

Unlike `task_runs`, no task runner of Airflow stands between: thousands of runs are played in a minute. The model has
Airflow's rules for tries (`max_tries`, RESTARTING), trigger rules, mapped instances and what a clear changes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from inspect import unwrap
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.graph.model import Step, StepKind
from metaflow_orchestration.run.commands import StepCall

from .task_runs import MemoryMetaflow

Key = tuple[str, int]
"""Task id and map index."""

DONE = ("success", "skipped", "failed", "upstream_failed", "removed")
_BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


class WorkerDiedError(BaseException):
    """The worker is gone: nothing of the task instance is reported."""


@dataclass(frozen=True)
class Ran:
    """A Metaflow task that was run to its end.

    :param at: when, in the order of all that happens.
    :param user_code: whether its own code ran, and not the fallback of `@catch`.
    """

    at: int
    user_code: bool


class LivingMetaflow(MemoryMetaflow):
    """Metaflow's tasks in memory, each of which leaves another result whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.ran_last: dict[tuple[str, str, str], Ran] = {}
        self.failed_at: dict[tuple[str, str, str], int] = {}
        self.attempts: set[tuple[str, str, str, int]] = set()
        self.mind = 0
        """Another number changes which cases switches choose, and how many splits a foreach has."""
        self.ends_with = "ok"
        self.check_inputs = lambda _: None  # type: ignore[assignment]
        self.check_parameters = lambda *_: None  # type: ignore[assignment]
        self.stored: dict[str, dict[str, str]] = {}
        """What `_parameters` of each run holds."""
        self.passed_on: dict[tuple[str, str, str], dict[str, str]] = {}
        """The parameters among the artifacts of tasks that have finished."""
        self.clear_running = lambda: None  # type: ignore[assignment]

    def tick(self) -> int:
        """Return the next moment."""
        self.now += 1
        return self.now

    def document(self, call: StepCall) -> dict[str, Any]:
        """Choose by the name of the task, so that a task that runs again does the same until it changes its mind."""
        made: dict[str, Any] = {"task_id": call.task_id, "next": list(call.step.next_steps)}
        lot = _number(call.step.name, call.task_id, self.mind)
        if call.step.kind is StepKind.FOREACH:
            made["num_splits"] = 1 + lot % 2
        if call.step.kind is StepKind.PARALLEL:
            made["num_parallel"] = 2
        if call.step.gang:
            made["gang"] = [call.task_id, f"{call.task_id}_node_1"]
        if call.step.kind is StepKind.SWITCH:
            others = [name for name in call.step.next_steps if name != call.step.name]
            again = call.step.recursive and lot % 3 and "-r2" not in call.task_id
            made["next"] = [call.step.name] if again else [others[lot % len(others)]]
        return made

    def _run(self, compute: Any, call: StepCall, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        key = (call.step.name, call.run_id, call.task_id)
        assert (*key, call.attempt) not in self.attempts, f"attempt {call.attempt} of {key} runs twice"
        self.attempts.add((*key, call.attempt))
        self.calls.append(call)
        self.check_inputs(call)
        if parameters is not None:
            # `init` comes before each attempt of the start step.
            self.stored[call.run_id] = dict(parameters)
        seen = self._seen(compute, call)
        self.check_parameters(call, seen)
        user_code = call.attempt <= call.max_user_retries
        ends, self.ends_with = self.ends_with, "ok"
        if ends == "dies":
            # For `@catch` that is a failed attempt like any other.
            self.failed_at[key] = self.tick()
            raise WorkerDiedError
        if ends == "cleared":
            self.clear_running()
            raise WorkerDiedError
        if ends in ("fails", "fails for good") and user_code:
            self.failed_at[key] = self.tick()
            raise (FinalFailureError if ends == "fails for good" else StepFailedError)("its code fails")
        self.ran_last[key] = Ran(self.tick(), user_code)
        self.passed_on[key] = seen
        document = self.finish(call, self.document(call))
        if ends == "finished unseen":
            if call.step.gang:
                # Nothing says that its other nodes have finished, so it is a failed attempt for `@catch`, too.
                self.failed_at[key] = self.tick()
            raise WorkerDiedError
        if ends == "finished and cleared":
            self.clear_running()
            raise WorkerDiedError
        return document

    def _seen(self, compute: Any, call: StepCall) -> dict[str, str]:
        """Return the parameters that a task finds: those of its first input, unless it is told to read the run's."""
        run_id, step, task = call.inputs[0].split("/")
        if step == "_parameters" or compute.resumed:
            return self.stored[call.run_id]
        # The nodes of a gang pass on what their control task does.
        return self.passed_on[step, run_id, task.partition("_node_")[0]]


def _number(*parts: object) -> int:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16)


@dataclass
class LivingRun:
    """One DAG run, and what Airflow's database holds of it.

    :param dag: the DAG as it is deployed now.
    :param metaflow: where its tasks run.
    """

    dag: DAG
    metaflow: LivingMetaflow
    conf: dict[str, Any] = field(default_factory=dict)
    states: dict[Key, str] = field(default_factory=dict)
    tries: Counter[Key] = field(default_factory=Counter)
    max_tries: dict[Key, int] = field(default_factory=dict)
    xcoms: dict[tuple[str, int, str], Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    """Of what tasks returned to be mapped over; kept apart from XComs (`airflow.models.taskmap`)."""
    expanded: dict[str, int] = field(default_factory=dict)
    """How many instances the tasks have that are mapped over a task."""
    clears: int = 0
    began: datetime = _BEGAN
    cleared_at: dict[Key, int] = field(default_factory=dict)
    by_hand: set[Key] = field(default_factory=set)
    """Task instances that a user has marked."""
    errors: dict[Key, str] = field(default_factory=dict)

    # What the scheduler does.

    def instances(self) -> list[Key]:
        """Return all task instances, once it is known how many a mapped task has."""
        found = []
        for task_id in self.dag.task_dict:
            indexes = self._map_indexes(task_id)
            found += [(task_id, index) for index in indexes or ()]
        return found

    def _source(self, task_id: str) -> str | None:
        group = self.dag.task_dict[task_id].get_closest_mapped_task_group()
        return None if group is None else next(iter(group.iter_mapped_dependencies())).task_id

    def _map_indexes(self, task_id: str) -> list[int] | None:
        source = self._source(task_id)
        if source is None:
            return [-1]
        state, length = self.states.get((source, -1)), self.lengths.get(source)
        if state == "success" and length is not None:
            self.expanded[source] = length
            for (task, index), before in list(self.states.items()):
                if index >= length and self._source(task) == source:
                    self.states[task, index] = "removed"
                elif before == "removed" and self._source(task) == source:
                    self.states[task, index] = "cleared"
        if source in self.expanded:
            return list(range(self.expanded[source]))
        # What is not expanded by then is one instance, which never runs.
        return [-1] if state in DONE else None

    def ready(self) -> list[Key]:
        """Return the task instances that can be tried now; settle those that never will."""
        while True:
            settled = False
            found = []
            for key in self.instances():
                if self.states.get(key) in DONE:
                    continue
                verdict = self._verdict(key)
                if verdict == "run":
                    found.append(key)
                elif verdict is not None:
                    self.states[key] = verdict
                    settled = True
            if not settled:
                return found

    def _verdict(self, key: Key) -> str | None:
        """Evaluate the trigger rule (`airflow.ti_deps.deps.trigger_rule_dep`)."""
        task: Any = self.dag.task_dict[key[0]]
        source = self._source(key[0])
        if source is not None and key[1] < 0 and self.states.get((source, -1)) == "success":
            return "upstream_failed"
        states: list[str | None] = []
        for name in task.upstream_task_ids:
            together = source is not None and self._source(name) == source
            indexes = [key[1]] if together else self._map_indexes(name)
            if indexes is None:
                return None
            states += [self.states.get((name, index)) for index in indexes]
        if any(state not in DONE for state in states):
            return None
        if any(state in ("failed", "upstream_failed") for state in states):
            return "upstream_failed"
        skipped = [state for state in states if state in ("skipped", "removed")]
        if task.trigger_rule == "all_success":
            return "skipped" if skipped else "run"
        assert task.trigger_rule == "none_failed_min_one_success", task.trigger_rule
        return "skipped" if states and len(skipped) == len(states) else "run"

    def state(self) -> str:
        """Return the state of the run."""
        if self.ready() or not self.states:
            return "running"
        instances = self.instances()
        if any(self.states.get(key) not in DONE for key in instances):
            return "stuck"
        return "failed" if any(self.states[key] in ("failed", "upstream_failed") for key in instances) else "success"

    def one_try(self, key: Key, ends_with: str) -> None:
        """Try a task instance.

        :param ends_with: how its next Metaflow task ends.
        """
        task: Any = self.dag.task_dict[key[0]]
        self.max_tries.setdefault(key, task.retries)
        self.tries[key] += 1
        for one in [one for one in self.xcoms if one[:2] == key]:
            del self.xcoms[one]
        self.states[key] = "running"
        self.metaflow.ends_with = ends_with
        self.metaflow.clear_running = lambda: self.clear(key)  # type: ignore[assignment]
        ti = _TaskInstance(self, key)
        params = {**self.dag.params.dump(), **self.conf}
        context: dict[str, Any] = {"ti": ti, "dag_run": self._dag_run(), "params": params}
        context["outlet_events"] = defaultdict(SimpleNamespace)
        state = "up_for_retry"
        try:
            # Airflow's own decorator of `execute` warns of each call that its task runner does not make.
            returned = unwrap(type(task).execute)(task, context)
            if returned is not None:
                self.xcoms[(*key, "return_value")] = returned
                if isinstance(returned, list):
                    self.lengths[key[0]] = len(returned)
            state = "success"
        except AirflowSkipException:
            state = "skipped"
        except AirflowFailException as error:
            state, self.errors[key] = "failed", str(error)
        except (StepFailedError, WorkerDiedError):
            pass
        finally:
            self.metaflow.ends_with = "ok"
        if self.states[key] == "restarting":
            state = "up_for_retry"
        elif state == "up_for_retry" and self.tries[key] > self.max_tries[key]:
            state = "failed"
        self.states[key] = state
        self.by_hand.discard(key)

    def _dag_run(self) -> Any:
        return SimpleNamespace(
            conf=self.conf,
            start_date=self.began,
            run_after=_BEGAN,
            clear_number=self.clears,
            consumed_asset_events=[],
        )

    # What users do.

    def clear(self, *keys: Key) -> None:
        """Clear task instances (`airflow.models.taskinstance.clear_task_instances`)."""
        over = self.metaflow.now and "running" not in self.states.values() and not self.ready()
        self.clears += 1
        for key in keys:
            self.cleared_at[key] = self.metaflow.tick()
            self.by_hand.discard(key)
            if self.states.get(key) in ("running", "restarting"):
                self.states[key] = "restarting"
                continue
            self.states.pop(key, None)
            self.states[key] = "cleared"
            self.max_tries[key] = self.tries[key] + self.dag.task_dict[key[0]].retries
        if over:
            self.began += timedelta(seconds=1)

    def with_downstream(self, key: Key) -> list[Key]:
        """Return a task instance and all that comes after it."""
        below = {task.task_id for task in self.dag.task_dict[key[0]].get_flat_relatives(upstream=False)}
        known = [one for one in self.states if one[0] in below and self.states[one] != "removed"]
        return [key, *known]

    def mark(self, key: Key, state: str) -> None:
        """Set the state of a task instance by hand."""
        self.states[key] = state
        self.by_hand.add(key)

    def delete_xcoms(self) -> None:
        """Do what `airflow db clean` does."""
        self.xcoms.clear()


@dataclass
class _TaskInstance:
    """What a task sees of itself and others through the Task SDK."""

    run: LivingRun
    key: Key

    def __post_init__(self) -> None:
        self.task_id, self.map_index = self.key
        self.dag_id, self.run_id = self.run.dag.dag_id, "manual__1"
        self.task = self.run.dag.task_dict[self.task_id]
        self.try_number, self.max_tries = self.run.tries[self.key], self.run.max_tries[self.key]

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.run.xcoms[(*self.key, key)] = value

    def xcom_pull(self, *, task_ids: Any, key: str = "return_value", map_indexes: Any = ()) -> Any:
        name = task_ids if isinstance(task_ids, str) else task_ids[0]
        if map_indexes is None:
            return self.run.xcoms.get((name, -1, key))
        if map_indexes == ():
            found = {one[1]: value for one, value in self.run.xcoms.items() if (one[0], one[2]) == (name, key)}
            return [found[index] for index in sorted(found)]
        return [self.run.xcoms.get((name, index, key)) for index in map_indexes]

    def get_task_states(self, *, task_ids: Sequence[str], **_: Any) -> dict[str, dict[str, str]]:
        states = {
            task if index < 0 else f"{task}_{index}": state
            for (task, index), state in self.run.states.items()
            if task in task_ids and state != "cleared"
        }
        return {self.run_id: states} if states else {}

    def get_ti_count(self, *, task_ids: Sequence[str], **_: Any) -> int:
        return sum(task in task_ids and state != "removed" for (task, _), state in self.run.states.items())


def step_of(run: LivingRun, key: Key) -> Step | None:
    """Return the step of a task instance, None for a task that lists splits."""
    graph = next(iter(run.dag.task_dict.values())).manifest.graph  # type: ignore[union-attr]
    return next((step for step in graph.steps if step.name == key[0]), None)
