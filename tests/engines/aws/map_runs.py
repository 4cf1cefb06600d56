"""Distributed maps on moto 5.2.5: each split is an execution of its own, which can be listed, described and read."""

from __future__ import annotations

import copy
import uuid
from datetime import datetime, timezone
from typing import Any


class Child:
    """An execution of a distributed map."""

    def __init__(self, map_run_arn: str, machine_arn: str) -> None:
        stem = map_run_arn.replace(":mapRun:", ":execution:").rpartition(":")[0]
        self.map_run_arn, self.machine_arn, self.name = map_run_arn, machine_arn, str(uuid.uuid4())
        self.arn, self.status, self.given = f"{stem}:{self.name}", "RUNNING", ""
        self.start, self.stop = datetime.now(timezone.utc), None
        self.failure: dict[str, str] = {}
        self.events: Any = None

    def end(self, status: str, **failure: str) -> None:
        """Note how it ended."""
        self.status, self.stop, self.failure = status, datetime.now(timezone.utc), failure

    def listed(self) -> dict[str, Any]:
        """The execution as ListExecutions shows it."""
        found = {"executionArn": self.arn, "stateMachineArn": self.machine_arn, "mapRunArn": self.map_run_arn}
        found |= {"name": self.name, "status": self.status, "startDate": self.start}
        return found | ({"stopDate": self.stop} if self.stop else {})


_CHILDREN: dict[str, Child] = {}


def install() -> None:
    """Mend them; once per process, before moto's server starts."""
    _children_of_distributed_maps()
    _failures_of_children()
    _answers()


def _children_of_distributed_maps() -> None:
    """A child of a distributed map is an execution of its own: another name, and no variable from outside."""
    from moto.stepfunctions.parser.api import ExecutionStartedEventDetails, HistoryEventType
    from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import (
        distributed_item_processor_worker as workers,
    )
    from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
    from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext, EventManager
    from moto.stepfunctions.parser.asl.eval.variable_store import VariableStore
    from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

    worker = workers.DistributedItemProcessorWorker
    original = worker._eval_input

    def eval_input(self: Any, env_frame: Any) -> None:
        # The selector still belongs to the parent.
        original(self, env_frame)
        env_frame.variable_store = VariableStore()
        context = env_frame.states.context_object.context_object_data
        child = Child(self._map_run_record.map_run_arn, context["StateMachine"]["Id"])
        child.given, child.events = to_json_str(env_frame.states.get_input()), EventManager()
        _CHILDREN[child.arn] = env_frame.child = child
        # The context of a frame is that of its parent until it has one of its own.
        execution = {**copy.deepcopy(context["Execution"]), "Name": child.name, "Id": child.arn}
        context["Execution"] = {**execution, "Input": copy.deepcopy(env_frame.states.get_input())}
        env_frame.event_manager = child.events
        env_frame.event_history_context = EventHistoryContext.of_program_start()
        child.events.add_event(
            context=env_frame.event_history_context,
            event_type=HistoryEventType.ExecutionStarted,
            event_details=EventDetails(executionStartedEventDetails=ExecutionStartedEventDetails(input=child.given)),
            update_source_event_id=False,
        )

    worker._eval_input = eval_input


def _failures_of_children() -> None:
    """A distributed map fails with its first child that fails, as its tolerance is 0; moto goes on with null."""
    from moto.stepfunctions.parser.api import HistoryEventType
    from moto.stepfunctions.parser.asl.component.common.error_name import failure_event as failures
    from moto.stepfunctions.parser.asl.component.common.error_name import states_error_name, states_error_name_type
    from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import (
        distributed_item_processor_worker as workers,
    )
    from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
    from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramStopped

    kind = states_error_name_type.StatesErrorNameType.StatesExceedToleratedFailureThreshold
    worker = workers.DistributedItemProcessorWorker
    original = worker._eval_job

    def eval_job(self: Any, env: Any, job: Any) -> None:
        original(self, env, job)
        state, child = env.program_state(), getattr(env, "child", None)
        if isinstance(state, ProgramEnded):
            child.end("SUCCEEDED")
            return
        failed = getattr(state, "error", None)
        failed = failed if isinstance(failed, dict) else {}
        if child is not None:
            stopped = isinstance(state, ProgramStopped)
            child.end("ABORTED" if stopped else "FAILED", **({} if stopped else failed))
        name = states_error_name.StatesErrorName(typ=kind)
        # The words of AWS, which tell nothing of the child.
        told = {"error": name.error_name, "cause": "The specified tolerated failure threshold was exceeded"}
        event = failures.FailureEvent(
            env=env,
            error_name=name,
            event_type=HistoryEventType.MapRunFailed,
            event_details=EventDetails(mapRunFailedEventDetails=told),
        )
        job.job_output = failures.FailureEventException(failure_event=event)

    worker._eval_job = eval_job


def _answers() -> None:
    """ListMapRuns of one execution only; ListExecutions of a map run; a child's description and history."""
    from moto.core.responses import ActionResult
    from moto.stepfunctions.parser import models
    from moto.stepfunctions.responses import StepFunctionResponse

    list_runs = models.StepFunctionsParserBackend.list_map_runs
    list_all, describe, history = (
        getattr(StepFunctionResponse, name)
        for name in ("list_executions", "describe_execution", "get_execution_history")
    )

    def list_map_runs(self: Any, execution_arn: str) -> dict[str, Any]:
        of = _CHILDREN.get(execution_arn)
        owner = self.describe_map_run(of.map_run_arn)["executionArn"] if of else execution_arn
        while owner in _CHILDREN:
            owner = self.describe_map_run(_CHILDREN[owner].map_run_arn)["executionArn"]
        found = list_runs(self, owner)["mapRuns"]
        return {"mapRuns": [one for one in found if one["executionArn"] == execution_arn]}

    def list_executions(self: Any) -> Any:
        arn, status = self._get_param("mapRunArn"), self._get_param("statusFilter")
        if arn is None:
            return list_all(self)
        found = [one for one in list(_CHILDREN.values()) if one.map_run_arn == arn and status in (None, one.status)]
        return ActionResult({"executions": [one.listed() for one in reversed(found)]})

    def describe_execution(self: Any) -> Any:
        child = _CHILDREN.get(self._get_param("executionArn"))
        if child is None:
            return describe(self)
        return ActionResult({**child.listed(), "input": child.given, **child.failure})

    def get_execution_history(self: Any) -> Any:
        child = _CHILDREN.get(self._get_param("executionArn"))
        return history(self) if child is None else ActionResult({"events": child.events.get_event_history()})

    models.StepFunctionsParserBackend.list_map_runs = list_map_runs
    StepFunctionResponse.list_executions = list_executions
    StepFunctionResponse.describe_execution = describe_execution
    StepFunctionResponse.get_execution_history = get_execution_history
