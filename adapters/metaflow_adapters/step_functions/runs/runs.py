"""Runs of deployed flows: started, ended, resumed. Each is an execution of a state machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from metaflow_adapters.documents import origin_text
from metaflow_adapters.ownership import check_owner
from metaflow_adapters.step_functions.aws.client import aws_call
from metaflow_adapters.step_functions.aws.structures import Execution
from metaflow_adapters.step_functions.deploy.deployments import remove_deployment
from metaflow_orchestration.exceptions import InvalidOptionError

from .ending import end_gangs
from .lookup import PREFIX, RunLookup

_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})
STATES = ("RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
MAX_INPUT_BYTES = 256 * 1024
"""Longest input of an execution (Step Functions, service quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for a run, by which it is checked whether it is theirs.

    :param user: user.
    :param token: production token that the user has.
    """

    user: str
    token: str | None = None


class SfnRuns(RunLookup):
    """The runs of one deployment, which can be started, ended and resumed; see :class:`RunLookup`."""

    def start(self, parameters: Mapping[str, Any], **further: Any) -> str:
        """Start a run and return its run id.

        :param parameters: values by name.
        :param further: further fields of the execution's input.
        :raises InvalidOptionError: if a parameter is not the flow's, or the input is too long.
        """
        arn, said = self.machine()
        if "metaflow.parameters" in said or parameters:
            _check(json.loads(said.get("metaflow.parameters", "{}")), parameters, self._flow)
        # As text, which JSONata hands on byte for byte; it would round large numbers.
        text = json.dumps({"Parameters": json.dumps(dict(parameters)), **further})
        size = len(text.encode())
        if size > MAX_INPUT_BYTES:
            raise InvalidOptionError(
                f"its parameters take {size} bytes; an execution takes {MAX_INPUT_BYTES}.",
                flow=self._flow,
                hint="Put large values into S3, and give their place.",
            )
        with aws_call(f"Starting {self._name}"):
            made = self._aws.states.start_execution(stateMachineArn=arn, input=text)
        return f"{PREFIX}{made['executionArn'].rpartition(':')[2]}"

    def terminate(self, run_id: str, caller: Caller) -> None:
        """End a run.

        :param run_id: its run id.
        :param caller: who asks.
        """
        found = self._owned(run_id, caller)
        if found["status"] != "RUNNING":
            raise InvalidOptionError(f"the run {run_id} has {_words(found)} and cannot be terminated.", flow=self._flow)
        with aws_call(f"Ending {run_id}"):
            self._aws.states.stop_execution(executionArn=found["executionArn"], error="Terminated", cause=caller.user)
        end_gangs(self._aws, found["executionArn"], f"{run_id} was terminated")

    def resume(
        self,
        run_id: str,
        caller: Caller,
        rerun: tuple[str, ...],
        parameters: Mapping[str, Any] = _NO_PARAMETERS,
        *,
        stored: Callable[[], Mapping[str, Any] | None] = lambda: None,
    ) -> str:
        """Start a run that clones the finished tasks of another, and return its run id.

        :param run_id: the run to resume.
        :param caller: who asks.
        :param rerun: steps that run again in any case.
        :param parameters: values by name; all others are those of the other run.
        :param stored: returns the required parameters of a run that is no execution here, None if there is none.
        :raises InvalidOptionError: as :meth:`start` does, or if the other run has not ended.
        """
        origin = origin_text(run_id, rerun, parameters, self._flow)
        values = None if self._is_execution(run_id) else stored()
        if values is not None:
            return self.start({**values, **parameters}, Origin=origin)
        found = self._ended(run_id, caller)
        given = json.loads(found.get("input") or "{}")
        if "detail-type" in given:
            given = {"Events": [given]}
        before = given.pop("Parameters", None) or {}
        before = json.loads(before) if isinstance(before, str) else before
        # Of a parameter that the flow has no more, no step would see a value.
        known = json.loads(self.machine()[1].get("metaflow.parameters", "{}"))
        kept = {name: value for name, value in before.items() if name in known}
        return self.start({**kept, **parameters}, **{**given, "Origin": origin})

    def _is_execution(self, run_id: str) -> bool:
        try:
            self.find(run_id)
        except InvalidOptionError:
            # Of another deployer, or AWS has forgotten it, which it does after 90 days.
            return False
        return True

    def check_ended(self, run_id: str, caller: Caller) -> None:
        """Check that a run can be resumed in place.

        :param run_id: the run.
        :param caller: who asks.
        :raises InvalidOptionError: if it is somebody else's, has not ended, or AWS cannot redrive it.
        """
        self._redrivable(run_id, caller)

    def redrive(self, run_id: str, caller: Caller) -> str:
        """Go on with a run at the states that failed, and return its run id.

        :param run_id: the run; AWS allows it for 14 days after its end.
        :param caller: who asks.
        :raises InvalidOptionError: as :meth:`check_ended` does.
        """
        found = self._redrivable(run_id, caller)
        with aws_call(f"Redriving {run_id}"):
            self._aws.states.redrive_execution(executionArn=found["executionArn"])
        return run_id

    def _redrivable(self, run_id: str, caller: Caller) -> Execution:
        found = self._ended(run_id, caller)
        succeeded = found["status"] == "SUCCEEDED"
        if succeeded or found.get("redriveStatus") == "NOT_REDRIVABLE":
            reason = "it has succeeded" if succeeded else found.get("redriveStatusReason") or "AWS gives no reason"
            raise InvalidOptionError(
                f"the run {run_id} cannot be resumed in place: {reason.rstrip('.')}.",
                flow=self._flow,
                hint="Resume it as a new run, without --redrive; --step-to-rerun runs steps that succeeded again.",
            )
        return found

    def _ended(self, run_id: str, caller: Caller) -> Execution:
        found = self._owned(run_id, caller)
        if found["status"] == "RUNNING":
            raise InvalidOptionError(
                f"the run {run_id} has not ended.", flow=self._flow, hint="Terminate it first, or wait."
            )
        return found

    def _owned(self, run_id: str, caller: Caller) -> Execution:
        found = self.find(run_id)
        self._check_owner(caller, f"the run {run_id} belongs to a deployment of")
        return found

    def _check_owner(self, caller: Caller, whose: str) -> str:
        arn, said = self.machine()
        owner, owned = said["metaflow.owner"], said.get("metaflow.production_token")
        check_owner(self._flow, whose, user=caller.user, token=caller.token, owner=owner, owned=owned)
        return arn

    def delete(self, caller: Caller) -> None:
        """Delete all that ``create`` has made. Runs that still run go on until they need a job.

        :param caller: who asks.
        :raises InvalidOptionError: if the deployment is somebody else's.
        """
        arn = self._check_owner(caller, f"{self._name} was deployed by")
        remove_deployment(self._aws, self._name, arn)


def _check(known: Mapping[str, Any], parameters: Mapping[str, Any], flow: str) -> None:
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InvalidOptionError(
            f"there is no parameter {unknown[0]!r}.",
            flow=flow,
            hint=f"Parameters are: {', '.join(known) or 'none'}.",
        )


def _words(execution: Execution) -> str:
    return execution["status"].lower().replace("_", " ")
