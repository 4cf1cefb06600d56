"""Runs of deployed flows: started, looked at, ended, resumed. Each is an execution of a state machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from metaflow_adapters.documents import origin_text
from metaflow_adapters.ownership import check_owner
from metaflow_orchestration.exceptions import InvalidOptionError

from .aws import Aws, AwsError, code_of, start_parameters, told
from .deploy import remove_definitions, remove_machine, remove_rules, remove_schedules
from .ending import end_gangs
from .history import whole_run
from .job_logs import lines_of
from .map_status import map_lines
from .names import HELPERS, machine_helper_name
from .plan import state_name
from .secrets import remove_secret

_LOG = logging.getLogger(__name__)
_MAX_NAMED = 5

PREFIX = "sfn-"
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


class SfnRuns:
    """The runs of one deployment.

    :param aws: clients of AWS.
    :param name: name of its state machine.
    :param flow: name of the flow, for errors.
    """

    def __init__(self, aws: Aws, name: str, flow: str) -> None:
        self._aws, self._name, self._flow = aws, name, flow

    def machine(self) -> tuple[str, dict[str, str]]:
        """Return the ARN of the state machine, and what it says of its flow.

        :raises InvalidOptionError: if there is none, or it holds no flow.
        """
        return self._machine

    @cached_property
    def _machine(self) -> tuple[str, dict[str, str]]:
        # Each verb asks several times, and AWS answers by the list of all state machines.
        found = self._aws.find_machine(self._name)
        if found is None:
            raise InvalidOptionError(
                f"there is no state machine {self._name!r}.", flow=self._flow, hint="Deploy the flow first: sfn create."
            )
        parameters = start_parameters(found)
        if parameters is None:
            raise InvalidOptionError(
                f"the state machine {self._name!r} was not made from a Metaflow flow.", flow=self._flow
            )
        return found["stateMachineArn"], parameters

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
        with told(f"Starting {self._name}"):
            made = self._aws.states.start_execution(stateMachineArn=arn, input=text)
        return f"{PREFIX}{made['executionArn'].rpartition(':')[2]}"

    def find(self, run_id: str) -> dict[str, Any]:
        """Return the execution of a run.

        :param run_id: its run id.
        :raises InvalidOptionError: if there is none of this flow.
        """
        from botocore.exceptions import ClientError

        if not run_id.startswith(PREFIX):
            raise InvalidOptionError(
                f"run ids of Step Functions start with {PREFIX!r}; got {run_id!r}.", flow=self._flow
            )
        arn = self.machine()[0].replace(":stateMachine:", ":execution:") + f":{run_id.removeprefix(PREFIX)}"
        with told(f"Reading the run {run_id}"):
            try:
                found: dict[str, Any] = self._aws.states.describe_execution(executionArn=arn)
            except ClientError as error:
                if code_of(error) not in ("ExecutionDoesNotExist", "InvalidArn"):
                    raise
                raise InvalidOptionError(
                    f"there is no run {run_id!r} of the state machine {self._name!r}.", flow=self._flow
                ) from None
        return found

    def every(self, statuses: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Yield the executions of the deployment, the newest first.

        :param statuses: only those of these statuses; all if empty.
        """
        arn, _ = self.machine()
        found = []
        with told(f"Listing the runs of {self._name}"):
            for status in statuses or (None,):
                kept = {"statusFilter": status} if status else {}
                pages = self._aws.states.get_paginator("list_executions").paginate(stateMachineArn=arn, **kept)
                found += [one for page in pages for one in page["executions"]]
        yield from sorted(found, key=lambda one: one["startDate"], reverse=True)

    def terminate(self, run_id: str, caller: Caller) -> None:
        """End a run.

        :param run_id: its run id.
        :param caller: who asks.
        """
        found = self._owned(run_id, caller)
        if found["status"] != "RUNNING":
            raise InvalidOptionError(f"the run {run_id} has {_words(found)} and cannot be terminated.", flow=self._flow)
        with told(f"Ending {run_id}"):
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
        """Start a run that takes over what another has finished, and return its run id.

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
        """Check that a run can go on in place.

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
        with told(f"Redriving {run_id}"):
            self._aws.states.redrive_execution(executionArn=found["executionArn"])
        return run_id

    def _redrivable(self, run_id: str, caller: Caller) -> dict[str, Any]:
        found = self._ended(run_id, caller)
        succeeded = found["status"] == "SUCCEEDED"
        if succeeded or found.get("redriveStatus") == "NOT_REDRIVABLE":
            reason = "it has succeeded" if succeeded else found.get("redriveStatusReason") or "AWS gives no reason"
            raise InvalidOptionError(
                f"the run {run_id} cannot go on in place: {reason.rstrip('.')}.",
                flow=self._flow,
                hint="Resume it as a new run, without --redrive; --step-to-rerun runs steps that succeeded again.",
            )
        return found

    def _ended(self, run_id: str, caller: Caller) -> dict[str, Any]:
        found = self._owned(run_id, caller)
        if found["status"] == "RUNNING":
            raise InvalidOptionError(
                f"the run {run_id} has not ended.", flow=self._flow, hint="Terminate it first, or wait."
            )
        return found

    def _owned(self, run_id: str, caller: Caller) -> dict[str, Any]:
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
        stem = arn.rpartition(":")[0]
        # The state machine last: without it nobody could tell whose the others are.
        remove_schedules(self._aws, self._name, set())
        remove_rules(self._aws, self._name, lambda name: f"{stem}:{name}", set())
        for helper in HELPERS:
            remove_machine(self._aws, machine_helper_name(self._name, helper))
        remove_definitions(self._aws, self._name, set())
        remove_secret(self._aws, self._name)
        remove_machine(self._aws, self._name)

    def logs(self, run_id: str, step: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield state and lines of the jobs of a run, from CloudWatch.

        :param run_id: its run id.
        :param step: name of a step, for its jobs only.
        """
        found = self.find(run_id)
        wanted = None if step is None else state_name(step)
        for history in whole_run(self._aws, found["executionArn"]):
            for job in history.jobs:
                if wanted in (None, job.state):
                    yield from ((job.state, line) for line in lines_of(self._aws, job.job_id))

    def map_lines(self, found: Mapping[str, Any]) -> Iterator[str]:
        """Yield lines about the distributed maps of a run: how many splits have ended, and why some failed.

        :param found: its execution, as :meth:`find` returns it.
        """
        try:
            yield from map_lines(self._aws, found["executionArn"])
        except AwsError as error:
            # Somebody who may see the run may not see these.
            _LOG.warning("What is known of distributed maps is not shown: %s", error)


def _check(known: Mapping[str, Any], parameters: Mapping[str, Any], flow: str) -> None:
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InvalidOptionError(
            f"there is no parameter {unknown[0]!r}.",
            flow=flow,
            hint=f"Parameters are: {', '.join(known) or 'none'}.",
        )


def _words(execution: Mapping[str, Any]) -> str:
    return str(execution["status"]).lower().replace("_", " ")


def deployed_machines(aws: Aws, flow: str | None) -> Iterator[str]:
    """Yield the names of the state machines that hold a flow.

    The policy of a deployer names its own state machines only, and AWS lists all: those that cannot be read are logged.

    :param aws: clients of AWS.
    :param flow: name of the flow; None for all flows.
    """
    hidden: list[str] = []
    for name, arn in aws.machines():
        found = aws.readable_machine(name, arn)
        if found is None:
            hidden.append(name)
            continue
        said = start_parameters(found)
        if said is not None and flow in (None, said.get("metaflow.flow_name")):
            yield name
    if hidden:
        names = ", ".join(sorted(hidden)[:_MAX_NAMED]) + (", …" if len(hidden) > _MAX_NAMED else "")
        _LOG.warning("These credentials may not read %d of the state machines: %s.", len(hidden), names)
