"""What the roles of an installation permit, and a deployment that gets by with it.

IAM answers who may ask it (``iam:SimulatePrincipalPolicy`` and ``iam:GetRole``; the printed policy of the deployer has
both). Roles that nobody can look into are taken for those of Metaflow's own template (``outerbounds/metaflow-tools``,
``metaflow-cfn-template.yml``): without ``batch:TagResource`` and ``states:StartExecution``, and with
``batch:SubmitJob`` on job definitions that have a revision only.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metaflow_adapters.step_functions.aws.client import (
    Aws,
    AwsError,
    NotPermittedError,
    NotTrustedError,
    aws_call,
    trust_hint,
)
from metaflow_adapters.step_functions.aws.structures import Simulation
from metaflow_adapters.step_functions.emit.resources import Statement

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.machine import FlowMachine

_LOG = logging.getLogger(__name__)

STATES, EVENTS, SCHEDULER = "states.amazonaws.com", "events.amazonaws.com", "scheduler.amazonaws.com"

_TAGS = ("Tag",)
_CHILDREN = ("Children", "FollowChildren")
_BEYOND_TEMPLATE = (*_TAGS, *_CHILDREN, "Start", "Tell")
"""Statements of the state machine's role that the template's role has nothing of."""

_CONTEXT = {"events:detail-type": "Batch Job State Change", "events:source": "aws.batch"}
"""What Step Functions makes its rule with, which policies may name as a condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What is known of the roles that a deployment uses.

    :param denied: statements of which the role of state machines lacks something; None where that is unknown.
    :param needs_revisions: whether jobs may be submitted by a definition with its revision only.
    :param starts_denied: statements of which the role of rules and schedules lacks something; None if unknown.
    :param trusted: services that may assume each role, by its ARN; a role that nobody can look into is left out.
    """

    denied: tuple[Statement, ...] | None
    needs_revisions: bool
    starts_denied: tuple[Statement, ...] | None
    trusted: dict[str, frozenset[str]]

    def trusts(self, role: str | None, service: str) -> bool | None:
        """Tell whether a service may assume a role; None if unknown.

        :param role: ARN of the role.
        :param service: e.g. ``events.amazonaws.com``.
        """
        services = self.trusted.get(role or "")
        return None if services is None else service in services


def access_of(machine: FlowMachine, aws: Aws) -> Access:
    """Ask IAM what the roles of a deployment permit. Changes nothing.

    :param machine: the flow.
    :param aws: clients of AWS.
    """
    resources, settings = machine.resources, machine.settings
    denied, revisions = _denied(aws, settings.machine_role, resources.policies["state_machine"]["Statement"])
    uses_events = bool(resources.rules or resources.schedules)
    starts: tuple[Statement, ...] | None = ()
    if uses_events and denied is not None:
        starts, _ = _denied(aws, settings.events_role, resources.policies["events"]["Statement"])
    roles = [settings.machine_role, settings.events_role if uses_events else None]
    trusted = {role: services for role in roles if role and (services := _trusted(aws, role)) is not None}
    return Access(
        denied=denied,
        needs_revisions=denied is None or revisions,
        starts_denied=starts,
        trusted=trusted,
    )


def fitted(machine: FlowMachine, access: Access) -> FlowMachine:
    """Return a flow that does without what its role does not permit, as far as nobody has asked for it.

    :param machine: the flow.
    :param access: what its roles permit.
    """
    from metaflow_adapters.step_functions.compile import machine_from

    options = machine.options
    if options is None:
        return machine
    changed = options
    lacking = set(_BEYOND_TEMPLATE) if access.denied is None else {one["Sid"] for one in access.denied}
    used = {one["Sid"] for one in machine.resources.policies["state_machine"]["Statement"]}
    if lacking & used & set(_TAGS):
        changed = dataclasses.replace(changed, tag_jobs=False)
    if lacking & used & set(_CHILDREN) and options.distributed is None:
        changed = dataclasses.replace(changed, distributed=False)
        _LOG.warning(
            "Maps of %s run inline, 40 splits at once and 25,000 events in a run, for its role %s distribute them: %s",
            machine.name,
            "may not" if access.denied is not None else "is not known to be allowed to",
            _text(one for one in machine.resources.policies["state_machine"]["Statement"] if one["Sid"] in _CHILDREN),
        )
    return machine if changed is options else machine_from(machine.manifest, changed)


def check_access(machine: FlowMachine, access: Access) -> None:
    """Refuse a deployment whose roles are known to lack something; warn of what cannot be known.

    :param machine: the flow, as :func:`fitted` has returned it.
    :param access: what its roles permit.
    :raises AwsError: with the statements to add.
    """
    flow, settings = machine.manifest.graph.name, machine.settings
    wanted = machine.resources.policies["state_machine"]["Statement"]
    used = {one["Sid"] for one in wanted}
    denied = [one for one in access.denied or () if one["Sid"] in used]
    for role, statements in ((settings.machine_role, denied), (settings.events_role, access.starts_denied)):
        if statements:
            raise NotPermittedError(
                f"the role {role} does not permit all that runs need.",
                flow=flow,
                hint=f"Add to its policy: {_text(statements)}",
            )
    if access.trusts(settings.machine_role, STATES) is False:
        raise _not_trusted(flow, str(settings.machine_role), STATES)
    if machine.resources.rules and access.trusts(settings.events_role, EVENTS) is False:
        raise _not_trusted(flow, str(settings.events_role), EVENTS)
    extra = [one for one in wanted if one["Sid"] in _BEYOND_TEMPLATE]
    if access.denied is None and extra:
        _LOG.warning(
            "These credentials cannot look into the role %s; runs of %s need these statements in its policy: %s",
            settings.machine_role,
            machine.name,
            _text(extra),
        )


def _not_trusted(flow: str, role: str, service: str) -> AwsError:
    return NotTrustedError(f"{service} may not assume the role {role}.", flow=flow, hint=trust_hint(role, service))


def _text(statements: Iterable[Statement]) -> str:
    return json.dumps([{key: value for key, value in one.items() if key != "Sid"} for one in statements])


def _denied(aws: Aws, role: str | None, statements: Sequence[Statement]) -> tuple[tuple[Statement, ...] | None, bool]:
    """Return what of some statements a role lacks, None if unknown, and whether only revisions may be submitted."""
    if not role:
        return (), False
    found: list[Statement] = []
    revisions = False
    for statement in statements:
        try:
            pairs = list(_refused_pairs(aws, role, statement))
        except AwsError:
            return None, True
        plain = {pair for pair in pairs if ":job-definition/" in pair[1] and pair[1].count(":") < _COLONS_OF_REVISION}
        revisions = revisions or bool(plain)
        left = [pair for pair in pairs if pair not in plain]
        if left:
            actions = [one for one in statement["Action"] if any(one == action for action, _ in left)]
            found.append({**statement, "Action": actions})
    return tuple(found), revisions


_COLONS_OF_REVISION = 6
"""``arn:aws:batch:region:account:job-definition/name:1``."""


def _refused_pairs(aws: Aws, role: str, statement: Statement) -> Iterator[tuple[str, str]]:
    """Yield actions and resources of a statement that a role does not permit."""
    context = {**_CONTEXT, **statement.get("Condition", {}).get("StringEquals", {})}
    given: Simulation = {
        "PolicySourceArn": role,
        "ActionNames": statement["Action"],
        "ContextEntries": [
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
            for key, value in context.items()
        ],
    }
    if statement["Resource"] != ["*"]:
        # IAM takes ARNs and no patterns: one that a pattern stands for.
        given["ResourceArns"] = [one.replace("?", "0").replace("*", "0") for one in statement["Resource"]]
    with aws_call(f"Asking IAM about the role {role}"):
        for page in aws.iam.get_paginator("simulate_principal_policy").paginate(**given):
            for one in page["EvaluationResults"]:
                # What depends on something that only a real call has is not known to be refused.
                if one["EvalDecision"] != "allowed" and not one.get("MissingContextValues"):
                    yield one["EvalActionName"], one.get("EvalResourceName", "*")


def _trusted(aws: Aws, role: str) -> frozenset[str] | None:
    """Return the services that may assume a role, None if unknown."""
    try:
        with aws_call(f"Reading the role {role}"):
            found = aws.iam.get_role(RoleName=role.rpartition("/")[2])["Role"]
    except AwsError:
        return None
    services: set[str] = set()
    for one in _listed(found.get("AssumeRolePolicyDocument", {}).get("Statement")):
        principal = one.get("Principal") or {}
        if one.get("Effect") != "Allow":
            continue
        if not isinstance(principal, dict) or principal.keys() - {"Service"}:
            # Whom else it lets in is not our concern.
            return None
        services.update(_REGIONAL.sub(r"\1.amazonaws.com", name) for name in _listed(principal.get("Service")))
    return frozenset(services)


_REGIONAL = re.compile(r"^([a-z-]+)\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?$")
"""AWS takes the name of a service with its region for the same service."""


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
