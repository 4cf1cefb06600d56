"""Flows that are deployed to an account: listed, and removed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from metaflow_adapters.step_functions.aws.client import Aws, start_parameters
from metaflow_adapters.step_functions.aws.secrets import remove_secret
from metaflow_adapters.step_functions.plan.names import HELPERS, machine_helper_name

from .flow import remove_definitions, remove_machine, remove_rules, remove_schedules

_LOG = logging.getLogger(__name__)
_MAX_NAMED = 5


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


def remove_deployment(aws: Aws, name: str, arn: str) -> None:
    """Remove all that ``create`` has made of a flow.

    :param aws: clients of AWS.
    :param name: name of its state machine.
    :param arn: ARN of that.
    """
    stem = arn.rpartition(":")[0]
    # The state machine last: without it nobody would know whose the others are.
    remove_schedules(aws, name, set())
    remove_rules(aws, name, lambda helper: f"{stem}:{helper}", set())
    for helper in HELPERS:
        remove_machine(aws, machine_helper_name(name, helper))
    remove_definitions(aws, name, set())
    remove_secret(aws, name)
    remove_machine(aws, name)
