"""Runs of deployed flows as they can be looked at: found, listed, their logs and how far they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property

from metaflow_adapters.step_functions.aws.client import Aws, AwsError, aws_call, code_of, start_parameters
from metaflow_adapters.step_functions.aws.structures import Execution
from metaflow_adapters.step_functions.plan.flow import state_name
from metaflow_orchestration.exceptions import InvalidOptionError

from .history import whole_run
from .job_logs import lines_of
from .map_status import map_lines

_LOG = logging.getLogger(__name__)

PREFIX = "sfn-"
"""What run ids begin with."""


class RunLookup:
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

    def find(self, run_id: str) -> Execution:
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
        with aws_call(f"Reading the run {run_id}"):
            try:
                found: Execution = self._aws.states.describe_execution(executionArn=arn)
            except ClientError as error:
                if code_of(error) not in ("ExecutionDoesNotExist", "InvalidArn"):
                    raise
                raise InvalidOptionError(
                    f"there is no run {run_id!r} of the state machine {self._name!r}.", flow=self._flow
                ) from None
        return found

    def every(self, statuses: Sequence[str] = ()) -> Iterator[Execution]:
        """Yield the executions of the deployment, the newest first.

        :param statuses: only those of these statuses; all if empty.
        """
        arn, _ = self.machine()
        found: list[Execution] = []
        with aws_call(f"Listing the runs of {self._name}"):
            for status in statuses or (None,):
                kept = {"statusFilter": status} if status else {}
                pages = self._aws.states.get_paginator("list_executions").paginate(stateMachineArn=arn, **kept)
                found += [one for page in pages for one in page["executions"]]
        yield from sorted(found, key=lambda one: one["startDate"], reverse=True)

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

    def map_lines(self, found: Execution) -> Iterator[str]:
        """Yield lines about the distributed maps of a run: how many splits have ended, and why some failed.

        :param found: its execution, as :meth:`find` returns it.
        """
        try:
            yield from map_lines(self._aws, found["executionArn"])
        except AwsError as error:
            # Somebody who may see the run may not see these.
            _LOG.warning("What is known of distributed maps is not shown: %s", error)
