"""Mends what moto 5.2.5's interpreter of the Amazon States Language leaves out or does unlike AWS.

Each function mends one gap and says what AWS does. Only what our machines and Metaflow's own need.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from . import map_runs as _map_runs

POLL_SECONDS = float(os.environ.get("TEST_STATES_POLL", "0.5"))
SECOND = float(os.environ.get("TEST_STATES_SECOND", "1"))
"""How long a second of a Wait or between two tries lasts: less where a test checks what follows what, not when."""


def install() -> None:
    """Mend them all; once per process, before moto's server starts."""
    for mend in (
        _names_of_fields,
        _paths,
        _jsonata,
        _errors_of_expressions,
        _sync_tasks,
        _waits,
        _query_languages,
        _errors_of_s3,
        _errors_of_batch,
        _errors_of_branches,
        _map_runs.install,
        _ends_of_executions,
        _names_of_executions,
        _redrive,
    ):
        mend()


def _names_of_fields() -> None:
    """Arguments and answers have the names of the API with a capital letter; moto's two hooks for that are empty."""
    import botocore.session
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import (
        StateTaskService,
    )
    from moto.stepfunctions.parser.asl.utils import encoding
    from moto.stepfunctions.parser.utils import camel_to_snake_case

    session, models = botocore.session.get_session(), {}

    def shape(self: Any, service: str | None, action: str | None, which: str) -> Any:
        name = self._get_boto_service_name(service)
        model = models.get(name) or models.setdefault(name, session.get_service_model(name))
        wanted = self._get_boto_service_action(action)
        operation = next((one for one in model.operation_names if camel_to_snake_case(one) == wanted), None)
        if operation is None:
            raise ValueError(f"{name} has no action {wanted}")
        return getattr(model.operation_model(operation), which)

    def normalise_parameters(
        self: Any, parameters: Any, boto_service_name: Any = None, service_action_name: Any = None
    ) -> None:
        self._to_boto_request(parameters, shape(self, boto_service_name, service_action_name, "input_shape"))

    def normalise_response(
        self: Any, response: Any, boto_service_name: Any = None, service_action_name: Any = None
    ) -> None:
        output = shape(self, boto_service_name, service_action_name, "output_shape")
        if output is not None:
            self._from_boto_response(response, output)
        if isinstance(response, dict):
            # Timestamps become text, bodies of S3 are read.
            response.update(json.loads(encoding.to_json_str(response)))

    StateTaskService._normalise_parameters = normalise_parameters
    StateTaskService._normalise_response = normalise_response


def _jsonata() -> None:
    """JSONata, which moto leaves unset; with the functions that AWS adds. A variable's text is data, not code."""
    import hashlib

    import jsonata
    from moto.stepfunctions.parser.asl.component.common.string import string_expression
    from moto.stepfunctions.parser.asl.eval import states, variable_store
    from moto.stepfunctions.parser.asl.jsonata import jsonata as language

    algorithms = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}

    def evaluate(expression: str) -> Any:
        try:
            made = jsonata.Jsonata(expression)
            made.register_lambda("parse", json.loads)
            made.register_lambda("uuid", lambda: str(uuid.uuid4()))
            made.register_lambda("hash", lambda text, name: hashlib.new(algorithms[name], text.encode()).hexdigest())
            value = made.evaluate(None)
        except Exception as error:
            raise language.JSONataException("UNKNOWN", str(error)) from None
        if value is None:
            # AWS: an expression must give a result; this library has one value for none and for null.
            raise language.JSONataException("UNKNOWN", f"the expression gives no result: {expression[-200:]}")
        return json.loads(json.dumps(value, default=lambda _: None))

    def declarations(bindings: dict[str, Any]) -> str:
        return "".join(f"{name}:={json.dumps(value, default=str)};" for name, value in bindings.items())

    language._eval_jsonata = evaluate
    # Stand-ins of moto's, which say only that they are not supported.
    string_expression.get_intrinsic_functions_declarations = lambda variable_references: ""
    states.encode_jsonata_variable_declarations = declarations
    variable_store.encode_jsonata_variable_declarations = declarations


def _paths() -> None:
    """A path that names one place gives its value, and `$.['a','b']` an object; moto gives lists for both.

    Metaflow's own state machines need it; ours have no paths.
    """
    import re

    from jsonpath_ng.jsonpath import Child, DatumInContext, Fields
    from moto.stepfunctions.parser.asl.utils import json_path

    original = json_path.parse

    class Definite:
        def __init__(self, expression: Any) -> None:
            self.expression = expression

        def find(self, data: Any) -> list[Any]:
            right = getattr(self.expression, "right", None) if isinstance(self.expression, Child) else None
            if isinstance(right, Fields) and len(right.fields) > 1:
                found = self.expression.left.find(data)
                return [DatumInContext({f: one.value[f] for f in right.fields if f in one.value}) for one in found]
            return [DatumInContext(one.value) for one in self.expression.find(data)]

    def parse(path: str) -> Any:
        many = re.search(r"\*|\.\.|\?|\[[^\]'\"]*[:,]", path)
        return original(path) if many else Definite(original(path))

    json_path.parse = parse


def _errors_of_expressions() -> None:
    """An expression that fails is a `States.QueryEvaluationError`, which the state's Catch may catch."""
    from moto.stepfunctions.parser.api import EvaluationFailedEventDetails, HistoryEventType
    from moto.stepfunctions.parser.asl.component.common.error_name import failure_event as failures
    from moto.stepfunctions.parser.asl.component.common.error_name import states_error_name, states_error_name_type
    from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
    from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
    from moto.stepfunctions.parser.asl.jsonata.jsonata import JSONataException

    kind = states_error_name_type.StatesErrorNameType.StatesQueryEvaluationError
    original = StringJSONata._eval_body

    def eval_body(self: Any, env: Any) -> None:
        try:
            original(self, env)
        except JSONataException as error:
            name = states_error_name.StatesErrorName(typ=kind)
            told = EvaluationFailedEventDetails(cause=str(error.details), error=name.error_name)
            event = failures.FailureEvent(
                env=env,
                error_name=name,
                event_type=HistoryEventType.EvaluationFailed,
                event_details=EventDetails(evaluationFailedEventDetails=told),
            )
            raise failures.FailureEventException(failure_event=event) from None

    StringJSONata._eval_body = eval_body


def _sync_tasks() -> None:
    """A task that is tried again waits again (moto's times out at once); one that is stopped ends its Batch job."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_callback

    state_task_service_callback._DELAY_SECONDS_SYNC_CONDITION_CHECK = POLL_SECONDS
    service = state_task_service_callback.StateTaskServiceCallback
    original = service._eval_sync

    def eval_sync(
        self: Any, env: Any, sync_resolver: Any, timeout_seconds: Any, callback_endpoint: Any, heartbeat_endpoint: Any
    ) -> Any:
        result = original(self, env, sync_resolver, timeout_seconds, None, heartbeat_endpoint)
        cells = (cell.cell_contents for cell in sync_resolver.__closure__ or ())
        held = dict(zip(sync_resolver.__code__.co_freevars, cells, strict=True))
        if not result and "job_id" in held:
            held["batch_client"].terminate_job(jobId=held["job_id"], reason="Step Functions stopped the task")
        return result

    service._eval_sync = eval_sync


def _waits() -> None:
    """Waits last as long as this module's `SECOND` says; otherwise they are moto's own."""
    from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
    from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction

    original = WaitFunction._wait_interval

    def wait_interval(self: Any, env: Any, wait_seconds: float) -> None:
        if SECOND == 1:
            original(self, env, wait_seconds)
            return
        end = time.monotonic() + wait_seconds * SECOND
        while env.is_running() and (left := end - time.monotonic()) > 0:
            env.program_state_event.wait(left)

    class Clock:
        @staticmethod
        def sleep(seconds: float) -> None:
            time.sleep(seconds * SECOND)

    WaitFunction._wait_interval, retrier_decl.time = wait_interval, Clock


def _query_languages() -> None:
    """Each definition is read by itself; moto's stack of query languages is one list for all, never cleaned up."""
    from moto.stepfunctions.parser.asl.parse import preprocessor

    preprocessor.Preprocessor.__init__ = lambda self: setattr(self, "_query_language_per_scope", [])


def _errors_of_s3() -> None:
    """Errors of the SDK integration of S3 are called `S3.…`."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk

    state_task_service_aws_sdk._SERVICE_ERROR_NAMES["s3"] = "S3"


def _errors_of_batch() -> None:
    """An error that Batch's API does not list, as that of too many requests, is a `Batch.AWSBatchException`.

    It is what Metaflow's own deployer retries when AWS Batch refuses submissions.
    """
    from botocore.exceptions import ClientError
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_batch

    service = state_task_service_batch.StateTaskServiceBatch
    original = service._from_error

    def from_error(self: Any, env: Any, ex: Exception) -> Any:
        if isinstance(ex, ClientError) and ex.response["Error"]["Code"] not in ("ClientException", "ServerException"):
            ex.response["Error"]["Code"] = "AWSBatchException"
        return original(self, env, ex)

    service._from_error = from_error


def _errors_of_branches() -> None:
    """A state whose branch or iteration failed has the error of it, those of AWS's own (`States.…`) too."""
    from moto.stepfunctions.parser.asl.component.common.error_name import custom_error_name
    from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName

    custom_error_name.CustomErrorName.__init__ = ErrorName.__init__


def _ends_of_executions() -> None:
    """An execution tells EventBridge how it ended, and gives its output as JSON text."""
    from moto.events.models import events_backends
    from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
    from moto.stepfunctions.parser.backend import execution as executions

    communication = executions.BaseExecutionWorkerCommunication
    original = communication._reflect_execution_status

    def reflect(self: Any) -> None:
        original(self)
        one = self.execution
        if one.output is not None:
            one.output = to_json_str(one.output)
        detail = {
            "executionArn": one.exec_arn,
            "stateMachineArn": one.state_machine.arn,
            "name": one.name,
            "status": str(one.exec_status.value),
            "input": json.dumps(one.input_data),
            "output": one.output,
            **({"error": one.error} if one.error else {}),
            **({"cause": one.cause} if one.cause else {}),
        }
        entry = {
            "Source": "aws.states",
            "DetailType": "Step Functions Execution Status Change",
            "Resources": [one.exec_arn],
            "Detail": json.dumps(detail),
        }
        events_backends[one.account_id][one.region_name].put_events([entry])

    communication._reflect_execution_status = reflect


def _names_of_executions() -> None:
    """An execution without a name gets one; making a machine that is there with another definition is refused."""
    from moto.stepfunctions.exceptions import AWSError
    from moto.stepfunctions.parser import models

    from tests.engines.aws.refusals import refuse

    class StateMachineAlreadyExists(AWSError):
        TYPE = CODE = "StateMachineAlreadyExists"
        STATUS = 400

    backend = models.StepFunctionsParserBackend
    start, create, update = backend.start_execution, backend.create_state_machine, backend.update_state_machine

    def start_execution(self: Any, arn: str, name: str | None = None, *others: Any, **named: Any) -> Any:
        return start(self, arn, name or str(uuid.uuid4()), *others, **named)

    def checked(definition: str) -> None:
        problem = refuse(definition)
        if problem:
            raise models.InvalidDefinition(f"Invalid State Machine Definition: {problem}")

    def create_state_machine(self: Any, name: str, definition: str, *others: Any, **named: Any) -> Any:
        checked(definition)
        old = self._revision_by_name(name)
        if old is not None and old.definition != definition:
            raise StateMachineAlreadyExists(f"State Machine Already Exists: '{old.arn}'")
        return create(self, name, definition, *others, **named)

    def update_state_machine(self: Any, arn: str, definition: str | None = None, *others: Any, **named: Any) -> Any:
        if definition is not None:
            checked(definition)
        return update(self, arn, definition, *others, **named)

    backend.start_execution = start_execution
    backend.create_state_machine = create_state_machine
    backend.update_state_machine = update_state_machine


def _redrive() -> None:
    """RedriveExecution, which moto lacks: goes on at the state of the outermost scope that failed, with its input.

    AWS goes on inside of parallel and map states, too; here such a state is run whole again.
    """
    from moto.core.responses import ActionResult
    from moto.stepfunctions import responses
    from moto.stepfunctions.exceptions import AWSError
    from moto.stepfunctions.parser.api import ExecutionStatus
    from moto.stepfunctions.parser.asl.component.program.program import Program

    class ExecutionNotRedrivable(AWSError):
        TYPE = CODE = "ExecutionNotRedrivable"
        STATUS = 400

    def redrive_execution(self: Any) -> Any:
        one = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
        if one.exec_status in (ExecutionStatus.RUNNING, ExecutionStatus.SUCCEEDED):
            raise ExecutionNotRedrivable(f"Execution is not RedriveExecution eligible: {one.exec_arn}")
        before = one.exec_worker.env
        worker = one._get_start_execution_worker()
        entry = worker._get_evaluation_entrypoint
        surroundings = worker._get_evaluation_environment

        def entrypoint() -> Any:
            program = entry()
            program.start_at.start_at_name = before.next_state_name_of_failure
            return program

        def environment() -> Any:
            env = surroundings()
            env.states.reset(input_value=before.states.get_input())
            env.variable_store = before.variable_store
            return env

        worker._get_evaluation_entrypoint, worker._get_evaluation_environment = entrypoint, environment
        one.error = one.cause = one.output = one.stop_date = None
        one.exec_worker, one.exec_status = worker, ExecutionStatus.RUNNING
        worker.start()
        return ActionResult({"redriveDate": one.start_date})

    responses.StepFunctionResponse.redrive_execution = redrive_execution

    get_state = Program._get_state
    body = Program._eval_body

    def remembering(self: Any, env: Any) -> None:
        self.__dict__["_running_in"] = env
        body(self, env)

    def remembered(self: Any, state_name: str) -> Any:
        env = self.__dict__.get("_running_in")
        if env is not None and not env.is_frame():
            env.next_state_name_of_failure = state_name
        return get_state(self, state_name)

    Program._eval_body, Program._get_state = remembering, remembered
