"""What moto 5.2.5 does not know of state machines: what an execution began with, fields of jobs, and validation."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any


def install() -> None:
    """Add them; once per process."""
    _definitions_of_executions()
    _parameters_of_jobs()
    _validation()


def _definitions_of_executions() -> None:
    """An execution keeps the definition that its machine had; moto answers with that of now, and no date of it."""
    from moto.core.responses import ActionResult
    from moto.stepfunctions.parser import models
    from moto.stepfunctions.responses import StepFunctionResponse

    backend = models.StepFunctionsParserBackend
    start, update = backend.start_execution, backend.update_state_machine

    def update_state_machine(self: Any, arn: str, *others: Any, **named: Any) -> Any:
        answer = update(self, arn, *others, **named)
        self.describe_state_machine(arn).changed_at = datetime.now(timezone.utc)
        return answer

    def start_execution(self: Any, arn: str, *others: Any, **named: Any) -> Any:
        machine = self.describe_state_machine(arn)
        execution = start(self, arn, *others, **named)
        changed = getattr(machine, "changed_at", None) or machine.creation_date
        execution.began_with = {"definition": machine.definition, "updateDate": changed}
        return execution

    def describe(self: Any) -> Any:
        arn = self._get_param("executionArn")
        machine = self.stepfunction_backend.describe_state_machine_for_execution(arn)
        execution = next(one for one in machine.executions if one.execution_arn == arn)
        described: Any = self._describe_state_machine(machine.arn).result
        return ActionResult({**described, **execution.began_with})

    backend.update_state_machine = update_state_machine
    backend.start_execution = start_execution
    StepFunctionResponse.describe_state_machine_for_execution = describe


def _parameters_of_jobs() -> None:
    """Step Functions hands on more fields of a job than moto knows (developer guide, "Run AWS Batch workloads")."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_batch as batch

    for known in batch._SUPPORTED_API_PARAM_BINDINGS.values():
        known |= {"PropagateTags", "SchedulingPriorityOverride", "ShareIdentifier"}


def _validation() -> None:
    from moto.core.responses import ActionResult
    from moto.stepfunctions.responses import StepFunctionResponse

    from .refusals import refuse

    def validate_state_machine_definition(self: Any) -> Any:
        text = self._get_param("definition")
        problem = refuse(text if isinstance(text, str) else json.dumps(text))
        found = {"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": problem}
        return ActionResult({"result": "FAIL" if problem else "OK", "diagnostics": [found] if problem else []})

    StepFunctionResponse.validate_state_machine_definition = validate_state_machine_definition  # type: ignore[attr-defined]
