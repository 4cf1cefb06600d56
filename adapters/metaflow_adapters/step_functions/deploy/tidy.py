"""What an earlier deployment had and a new one has not: removed, as far as it is permitted and nothing uses it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from metaflow_adapters.step_functions.aws.client import Aws, AwsError, NotPermittedError, aws_call
from metaflow_adapters.step_functions.aws.structures import Execution, RegisteredDefinition
from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG, HELPERS, machine_helper_name

from .rules import stop_rules
from .schedules import remove_schedules

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.machine import FlowMachine

_LOG = logging.getLogger(__name__)

REDRIVABLE = timedelta(days=14)
"""How long after its end an execution can be redriven (Step Functions, "Redriving state machine executions")."""

_MARGIN = timedelta(minutes=5)
"""For how long executions may begin with the definition before, which AWS says it knows "within a few seconds"."""

_REDRIVEN = ("FAILED", "TIMED_OUT", "ABORTED")


def tidy(machine: FlowMachine, aws: Aws, *, triggers: set[str], before: Mapping[str, str],
         definitions: Sequence[RegisteredDefinition]) -> None:  # fmt: skip
    """Remove what is no longer used. The deployment is complete: what cannot be removed is only logged.

    :param machine: the flow.
    :param aws: clients of AWS.
    :param triggers: names of the rules and schedules that stay; a rule in place of a schedule has its name.
    :param before: definitions of the state machines that this deployment has replaced, by their ARNs.
    :param definitions: job definitions of the deployment, as AWS describes them.
    """
    name, arn_of = machine.name, machine.place.machine
    schedules = {one["Name"] for one in machine.resources.schedules}
    _allowed(lambda: stop_rules(aws, name, arn_of, triggers))
    # Where nothing was deployed before, those are of a state machine that somebody deleted by hand.
    _allowed(lambda: remove_schedules(aws, name, schedules - triggers), is_expected=not before)
    new = {one["jobDefinitionName"] for one in machine.resources.job_definitions}
    old = [one for one in definitions if one["jobDefinitionName"] not in new]
    if old:
        # Before helping state machines go, whose executions use them, too.
        _allowed(lambda: _remove_unused(machine, aws, old, before))
    for helper in HELPERS:
        helping = machine_helper_name(name, helper)
        if before and helping not in machine.resources.state_machines:
            _allowed(lambda helping=helping: _remove_helper(aws, helping, arn_of(helping)))  # type: ignore[misc]


def _remove_helper(aws: Aws, name: str, arn: str) -> None:
    """Delete a state machine that nothing starts any more, unless its executions run or can be redriven."""
    if not any(_executions_in_use(aws, arn)):
        remove_machine(aws, name, arn)


def _allowed(clean_up: Callable[[], Any], *, is_expected: bool = False) -> None:
    try:
        clean_up()
    except AwsError as problem:
        level = logging.INFO if is_expected and isinstance(problem, NotPermittedError) else logging.WARNING
        _LOG.log(level, "Something of the deployment before may be left: %s", problem)


def _remove_unused(
    machine: FlowMachine, aws: Aws, old: Sequence[RegisteredDefinition], before: Mapping[str, str]
) -> None:
    names = {one["jobDefinitionName"] for one in old}
    # An execution that began a moment ago may not be listed yet.
    used = {name for text in before.values() for name in _named(text, names)}
    arns = [machine.arn, *(machine.place.machine(machine_helper_name(machine.name, helper)) for helper in HELPERS)]
    for arn in arns:
        if names <= used:
            return
        try:
            for text in _definitions_in_use(aws, arn):
                used |= _named(text, names)
        except NotPermittedError as problem:
            # Who may not know what is used removes nothing.
            _LOG.info("Job definitions of earlier deployments stay: %s", problem)
            return
    for one in old:
        if one["jobDefinitionName"] not in used:
            deregister(aws, one)


def _named(text: str, names: set[str]) -> set[str]:
    return {name for name in names if re.search(rf"{re.escape(name)}(?![A-Za-z0-9_-])", text)}


def _definitions_in_use(aws: Aws, arn: str) -> Iterator[str]:
    """Yield the definitions of executions that run or can be redriven, each once as far as that is known."""
    found = sorted(_executions_in_use(aws, arn), key=lambda one: one["startDate"], reverse=True)
    begun: datetime | None = None
    for one in found:
        # Those that began after a definition was made have it.
        if begun is not None and one["startDate"] >= begun:
            continue
        with aws_call(f"Reading the state machine of {one['executionArn']}"):
            described = aws.states.describe_state_machine_for_execution(executionArn=one["executionArn"])
        begun = described["updateDate"] + _MARGIN
        yield described["definition"]


def _executions_in_use(aws: Aws, arn: str) -> Iterator[Execution]:
    from botocore.exceptions import ClientError

    from metaflow_adapters.step_functions.aws.client import code_of

    since = datetime.now(timezone.utc) - REDRIVABLE - _MARGIN
    with aws_call(f"Listing the runs of {arn}"):
        try:
            for status in ("RUNNING", *_REDRIVEN):
                pages = aws.states.get_paginator("list_executions").paginate(stateMachineArn=arn, statusFilter=status)
                for page in pages:
                    yield from (one for one in page["executions"] if one.get("stopDate", since) >= since)
        except ClientError as error:
            if code_of(error) != "StateMachineDoesNotExist":
                raise


def deregister(aws: Aws, definition: RegisteredDefinition) -> None:
    """Deregister a job definition.

    :param aws: clients of AWS.
    :param definition: as AWS describes it.
    """
    with aws_call(f"Deregistering the job definition {definition['jobDefinitionName']}"):
        aws.batch.deregister_job_definition(jobDefinition=definition["jobDefinitionArn"])


def remove_definitions(aws: Aws, name: str, kept: set[str]) -> None:
    """Deregister the job definitions of a deployment.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param kept: names of those that stay.
    """
    for one in list(aws.definitions_of(name, DEPLOYMENT_TAG)):
        if one["jobDefinitionName"] not in kept:
            deregister(aws, one)


def remove_machine(aws: Aws, name: str, arn: str | None = None) -> bool:
    """Delete a state machine, and return whether there was one.

    :param aws: clients of AWS.
    :param name: its name.
    :param arn: its ARN; without it the account's state machines are listed.
    """
    found = aws.find_machine(name, arn)
    if found is None:
        return False
    with aws_call(f"Deleting the state machine {name}"):
        aws.states.delete_state_machine(stateMachineArn=found["stateMachineArn"])
    return True
