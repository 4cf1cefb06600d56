"""Distributed maps on moto 5.2.5: each split is an execution of its own."""

from __future__ import annotations

import copy
import uuid
from typing import Any


def install() -> None:
    """Mend them; once per process, before moto's server starts."""
    _children_of_distributed_maps()
    _failures_of_children()


def _children_of_distributed_maps() -> None:
    """A child of a distributed map is an execution of its own: another name, and no variable from outside."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import (
        distributed_item_processor_worker as workers,
    )
    from moto.stepfunctions.parser.asl.eval.variable_store import VariableStore

    worker = workers.DistributedItemProcessorWorker
    original = worker._eval_input

    def eval_input(self: Any, env_frame: Any) -> None:
        # The selector still belongs to the parent.
        original(self, env_frame)
        env_frame.variable_store = VariableStore()
        context = env_frame.states.context_object.context_object_data
        name = str(uuid.uuid4())
        context["Execution"] = {**copy.deepcopy(context["Execution"]), "Name": name, "Id": f"child:{name}"}

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
    from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded

    kind = states_error_name_type.StatesErrorNameType.StatesExceedToleratedFailureThreshold
    worker = workers.DistributedItemProcessorWorker
    original = worker._eval_job

    def eval_job(self: Any, env: Any, job: Any) -> None:
        original(self, env, job)
        state = env.program_state()
        if isinstance(state, ProgramEnded):
            return
        name = states_error_name.StatesErrorName(typ=kind)
        told = {"error": name.error_name, "cause": f"a child failed: {getattr(state, 'error', state)}"}
        event = failures.FailureEvent(
            env=env,
            error_name=name,
            event_type=HistoryEventType.MapRunFailed,
            event_details=EventDetails(mapRunFailedEventDetails=told),
        )
        job.job_output = failures.FailureEventException(failure_event=event)

    worker._eval_job = eval_job
