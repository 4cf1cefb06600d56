"""Task instances of a DAG run by Airflow's own task runner in this process, in the order that a test wants.

The supervisor that they talk to is the test's: it holds XComs, states and tries as Airflow's API server would. In the
place of Metaflow's processes stands :class:`MemoryMetaflow`, where results and failures are as the test says.
"""

from __future__ import annotations

import signal
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import AssetEventDagRunReference, DagRun, TIRunContext
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.graph.identity import position_in_step
from metaflow_orchestration.graph.model import Step, StepKind
from metaflow_orchestration.run.commands import StepCall

_BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
_MOMENTS = (_BEGAN + timedelta(seconds=number) for number in count())

Key = tuple[str, int]
"""Task id and map index."""


def at(call: StepCall) -> str:
    """Return where in its step a task stands, e.g. `t-0`."""
    return position_in_step(call.step.name, call.task_id)


class MemoryMetaflow:
    """Metaflow's tasks without processes: what each ends with is asked from the test.

    :ivar calls: the tasks that were run, in order.
    :ivar results: outcome document and attempt by step, run id and task id; what a datastore would hold.
    :ivar outcome: changes the outcome document of a task, which goes on to all next steps; may raise.
    """

    def __init__(self) -> None:
        self.calls: list[StepCall] = []
        self.parameters: list[Mapping[str, str] | None] = []
        self.codes: list[str] = []
        self.results: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {}
        self.outcome: Callable[[StepCall, dict[str, Any]], dict[str, Any] | None] = lambda _, document: document
        self.splits = 2
        self.records: dict[str, Any] = {}
        """What a datastore would hold of DAG run ids."""
        self.foreign: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        """Finished tasks of a run that others have made, by run id and step."""
        self.probed: list[str] = []
        """Steps whose results were looked for in the datastore."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> MemoryMetaflow:
        """Take the place of the processes of the worker."""

        def run(compute: LocalCompute, *given: Any, **named: Any) -> dict[str, Any]:
            return self._run(compute, *given, **named)

        monkeypatch.setattr(LocalCompute, "run", run)
        monkeypatch.setattr(LocalCompute, "probe", lambda _, *given, **named: self.probe(*given, **named))
        monkeypatch.setattr(LocalCompute, "find_tasks", lambda _, step, run, __: self.foreign.get((run, step.name)))
        monkeypatch.setattr(LocalCompute, "has_run", lambda _, run_id: self.has_run(run_id))
        monkeypatch.setattr(LocalCompute, "load_record", lambda _, name: self.records.get(name))
        monkeypatch.setattr(LocalCompute, "save_record", lambda _, *record: self.records.update([record]))
        monkeypatch.setattr(LocalCompute, "save", lambda _, data: f"memory://{len(data)}")
        return self

    def has_run(self, run_id: str) -> bool:
        """Return whether a run was registered by `init`, which a call of the start step includes."""
        return any(call.run_id == run_id for call in self.calls)

    def ran(self, step: str | None = None) -> list[str]:
        """Return `step/position` of the tasks that were run, or the positions of those of one step."""
        if step is not None:
            return [position_in_step(step, call.task_id) for call in self.calls if call.step.name == step]
        return [f"{call.step.name}/{position_in_step(call.step.name, call.task_id)}" for call in self.calls]

    def call(self, step: str, position: str = "t") -> StepCall:
        """Return the last call of a task."""
        return [one for one in self.calls if (one.step.name, at(one)) == (step, position)][-1]

    def inputs(self, step: str, position: str = "t") -> list[str]:
        """Return `step/position` of what a task was given, without the run id."""
        given = [path.split("/") for path in self.call(step, position).inputs]
        return [f"{parent}/{position_in_step(parent, task)}" for _, parent, task in given]

    def document(self, call: StepCall) -> dict[str, Any]:
        """Return the outcome document of a task that goes on to all that it can go on to."""
        made: dict[str, Any] = {"task_id": call.task_id, "next": list(call.step.next_steps)}
        if call.step.kind is StepKind.FOREACH:
            made["num_splits"] = self.splits
        if call.step.kind is StepKind.PARALLEL:
            made["num_parallel"] = self.splits
        if call.step.gang and call.clone_of is None:
            made["gang"] = [call.task_id, f"{call.task_id}_node_1"]
        return made

    def finish(self, call: StepCall, document: dict[str, Any]) -> dict[str, Any]:
        """Keep the result of a task, as a datastore does."""
        self.results[call.step.name, call.run_id, call.task_id] = (call.attempt, document)
        return document

    def _run(
        self, compute: LocalCompute, call: StepCall, parameters: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        self.calls.append(call)
        self.parameters.append(parameters)
        self.codes.append(compute.code.url)
        document = self.outcome(call, self.document(call))
        assert document is not None
        return self.finish(call, document)

    def probe(
        self, step: str, run_id: str, task_ids: Sequence[str], *, min_attempt: int = 0, stop: bool = False
    ) -> list[dict[str, Any] | None]:
        self.probed.append(step)
        found: list[dict[str, Any] | None] = []
        for name in task_ids:
            attempt, document = self.results.get((step, run_id, name), (-1, None))
            found.append(document if attempt >= min_attempt else None)
            if stop and found[-1] is None:
                break
        return found


@dataclass(slots=True)
class TaskRun:
    """How one try ended: Airflow's state, the message to the supervisor, and the error."""

    state: str
    message: Any
    error: BaseException | None
    operator: Any
    context: Any

    def __eq__(self, other: object) -> bool:
        return self.state == other if isinstance(other, str) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class FlowRun:
    """A run of a DAG whose scheduler is the test.

    :param dag: the DAG.
    :param conf: configuration of the run.
    :param dag_run_id: Airflow's id of the run.
    :param events: asset events that the run was started by: asset name and payload.
    :param logical_date: None for a run that has none, as those that are triggered without one, by events, or resumed.
    """

    dag: DAG
    conf: dict[str, Any] = field(default_factory=dict)
    dag_run_id: str = "manual__1"
    events: Sequence[tuple[str, dict[str, Any]]] = ()
    logical_date: datetime | None = _BEGAN
    xcoms: dict[tuple[str, int, str], Any] = field(default_factory=dict)
    states: dict[Key, str] = field(default_factory=dict)
    tries: Counter[Key] = field(default_factory=Counter)
    max_tries: dict[Key, int] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    labels: dict[Key, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    clears: int = 0
    """How often tasks of the run were cleared."""
    began: datetime = field(default_factory=lambda: next(_MOMENTS))
    """When the run was started; a run that is made again under its id is started at another time."""
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """What the supervisor answers instead, by the name of the message's class."""

    state_store: dict[tuple[Key, str], Any] = field(default_factory=dict)
    """What task instances keep over their tries."""

    _now: Key = ("", -1)
    _expanded: dict[str, list[int]] = field(default_factory=dict)

    def run(
        self, task_id: str, map_index: int = -1, *, resumed: comms.DeferTask | None = None, event: Any = None
    ) -> TaskRun:
        """Make one try of a task instance.

        :param task_id: the task.
        :param map_index: which instance.
        :param resumed: the deferral that the try goes on after; it is the same try.
        :param event: what the trigger has seen.
        """
        key = self._now = (task_id, map_index)
        task: Any = self.dag.task_dict[task_id]
        self.max_tries.setdefault(key, task.retries)
        if resumed is None:
            self.tries[key] += 1
            for one in [one for one in self.xcoms if one[:2] == key]:
                # As the API server has it done when a try starts.
                del self.xcoms[one]
        self.states[key] = "running"
        ti = self._instance(task, key, resumed, event)
        with _supervised(self):
            context = ti.get_template_context()
            state, message, error = task_runner.run(ti, context, _Log())
        # What a task says that was cleared while it ran is not listened to: it is tried again.
        ended = "up_for_retry" if self.states[key] == "restarting" else state.value
        self.states[key] = ended
        return TaskRun(ended, message, error, ti.task, context)

    def run_all(self, *task_ids: str) -> None:
        """Run tasks that must succeed, every mapped instance of them."""
        for task_id in task_ids:
            for index in self.map_indexes(task_id):
                ended = self.run(task_id, index)
                assert ended == "success", (task_id, index, ended.state, ended.error)

    def map_indexes(self, task_id: str) -> list[int]:
        """Return the map indexes of a task, from what its group is mapped over."""
        group = self.dag.task_dict[task_id].get_closest_mapped_task_group()
        if group is None:
            return [-1]
        (source,) = group.iter_mapped_dependencies()
        listed = self.xcoms.get((source.task_id, -1, "return_value"))
        if listed is not None:
            self._expanded[task_id] = list(range(len(listed)))
        # Instances stay when the XCom is deleted.
        return self._expanded[task_id]

    def clear(self, task_id: str, *map_indexes: int) -> None:
        """Clear task instances, with Airflow's rule for the tries that they then have.

        One that runs is ended and tried again (``clear_task_instances``), and nothing else about it changes.
        """
        self.clears += 1
        for index in map_indexes or self.map_indexes(task_id):
            key = (task_id, index)
            if self.states.get(key) in ("running", "restarting"):
                self.states[key] = "restarting"
                continue
            self.states.pop(key, None)
            self.max_tries[key] = self.tries[key] + self.dag.task_dict[task_id].retries

    def value(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return an XCom."""
        return self.xcoms.get((task_id, map_index, key))

    def send(self, msg: Any) -> Any:
        """Answer a task, as the supervisor does."""
        self.requests.append(msg)
        answer = self.answers.get(type(msg).__name__) or getattr(self, f"_on_{type(msg).__name__}", None)
        return answer(msg) if answer is not None else comms.OKResponse(ok=True)

    def _on_SetTaskStateStore(self, msg: Any) -> comms.OKResponse:
        self.state_store[self._now, msg.key] = msg.value
        return comms.OKResponse(ok=True)

    def _on_GetTaskStateStore(self, msg: Any) -> Any:
        if (self._now, msg.key) not in self.state_store:
            return comms.ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)
        return comms.TaskStateStoreResult(value=self.state_store[self._now, msg.key])

    def _on_GetXCom(self, msg: comms.GetXCom) -> comms.XComResult:
        index = -1 if msg.map_index is None else msg.map_index
        return comms.XComResult(key=msg.key, value=self.xcoms.get((msg.task_id, index, msg.key)))

    def _values(self, msg: Any) -> list[Any]:
        wanted = (msg.task_id, msg.key)
        found = [(index, value) for (task, index, key), value in self.xcoms.items() if (task, key) == wanted]
        return [value for _, value in sorted(found, key=lambda one: one[0])]

    def _on_GetXComSequenceSlice(self, msg: comms.GetXComSequenceSlice) -> comms.XComSequenceSliceResult:
        return comms.XComSequenceSliceResult(root=self._values(msg)[slice(msg.start, msg.stop, msg.step)])

    def _on_GetXComCount(self, msg: comms.GetXComCount) -> comms.XComCountResponse:
        return comms.XComCountResponse(len=len(self._values(msg)))

    def _on_GetXComSequenceItem(self, msg: comms.GetXComSequenceItem) -> Any:
        return comms.XComSequenceIndexResult(root=self._values(msg)[msg.offset])

    def _on_SetXCom(self, msg: comms.SetXCom) -> comms.OKResponse:
        self.xcoms[msg.task_id, -1 if msg.map_index is None else msg.map_index, msg.key] = msg.value
        return comms.OKResponse(ok=True)

    def _on_DeleteXCom(self, msg: comms.DeleteXCom) -> comms.OKResponse:
        self.xcoms.pop((msg.task_id, -1 if msg.map_index is None else msg.map_index, msg.key), None)
        return comms.OKResponse(ok=True)

    def _on_GetTaskStates(self, msg: comms.GetTaskStates) -> comms.TaskStatesResult:
        wanted = msg.task_ids or list(self.dag.task_dict)
        states = {
            task if index < 0 else f"{task}_{index}": state
            for (task, index), state in self.states.items()
            if task in wanted
        }
        return comms.TaskStatesResult(task_states={self.dag_run_id: states} if states else {})

    def _on_GetTICount(self, msg: comms.GetTICount) -> comms.TICount:
        return comms.TICount(count=sum(len(self._expanded[task]) for task in msg.task_ids or ()))

    def _on_SetRenderedMapIndex(self, msg: comms.SetRenderedMapIndex) -> comms.OKResponse:
        self.labels[self._now] = msg.rendered_map_index
        return comms.OKResponse(ok=True)

    def _on_ValidateInletsAndOutlets(self, _: comms.ValidateInletsAndOutlets) -> comms.InactiveAssetsResult:
        return comms.InactiveAssetsResult(inactive_assets=[])

    def _on_GetConnection(self, _: comms.GetConnection) -> comms.ErrorResponse:
        return comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)

    def _on_GetVariable(self, msg: comms.GetVariable) -> Any:
        if msg.key in self.variables:
            return comms.VariableResult(key=msg.key, value=self.variables[msg.key])
        return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)

    def _instance(self, task: BaseOperator, key: Key, resumed: comms.DeferTask | None, event: Any) -> Any:
        task_id, map_index = key
        again: dict[str, Any] = {}
        if resumed is not None:
            again = {"next_method": resumed.next_method, "next_kwargs": {**(resumed.next_kwargs or {}), "event": event}}
        from_server = TIRunContext(
            dag_run=self._dag_run(),
            max_tries=self.max_tries[key],
            should_retry=self.tries[key] <= self.max_tries[key],
            **again,
        )
        return task_runner.RuntimeTaskInstance.model_construct(
            id=uuid.uuid4(),
            task_id=task_id,
            dag_id=self.dag.dag_id,
            run_id=self.dag_run_id,
            try_number=self.tries[key],
            map_index=map_index,
            dag_version_id=uuid.uuid4(),
            task=task,
            max_tries=self.max_tries[key],
            start_date=_BEGAN,
            state="running",
            is_mapped=map_index >= 0,
            _ti_context_from_server=from_server,
        )

    def _dag_run(self) -> DagRun:
        consumed = [
            AssetEventDagRunReference.model_validate(
                {
                    "asset": {"name": name, "uri": name, "extra": {}},
                    "extra": payload,
                    "source_task_id": None,
                    "source_dag_id": None,
                    "source_run_id": None,
                    "source_map_index": None,
                    "source_aliases": [],
                    "timestamp": _BEGAN,
                    "partition_key": None,
                }
            )
            for name, payload in self.events
        ]
        return DagRun.model_validate(
            {
                "dag_id": self.dag.dag_id,
                "run_id": self.dag_run_id,
                "logical_date": self.logical_date,
                "data_interval_start": self.logical_date,
                "data_interval_end": self.logical_date,
                "run_after": _BEGAN,
                "start_date": self.began,
                "end_date": None,
                "clear_number": self.clears,
                "run_type": "manual",
                "state": "running",
                "conf": self.conf,
                "consumed_asset_events": [one.model_dump() for one in consumed],
                "partition_key": None,
            }
        )


def step_of(dag: DAG, name: str) -> Step:
    """Return a step of the flow that a DAG runs."""
    found: Step = dag.task_dict[name].manifest.graph.step(name)  # type: ignore[union-attr]
    return found


class _Log:
    """Takes what the task runner logs."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _supervised:
    """Let tasks of this process talk to a supervisor."""

    def __init__(self, supervisor: FlowRun) -> None:
        self._supervisor = supervisor

    def __enter__(self) -> None:
        self._before = getattr(task_runner, "SUPERVISOR_COMMS", None)
        self._handler = signal.getsignal(signal.SIGTERM)
        task_runner.SUPERVISOR_COMMS = self._supervisor  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        # The task runner has set its own.
        signal.signal(signal.SIGTERM, self._handler)
        if self._before is None:
            del task_runner.SUPERVISOR_COMMS
        else:
            task_runner.SUPERVISOR_COMMS = self._before
