"""Who may assume the roles of a deployment, and the roles as a template of CloudFormation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from metaflow_adapters.step_functions.emit.resources import Conditions, PolicyDocument, Statement
from metaflow_adapters.step_functions.settings import Place

from .deployer import ASKED, divided, is_deployers
from .roles import allow, document

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.machine import FlowMachine

SERVICES = {
    "state_machine": ("states.amazonaws.com",),
    "events": ("events.amazonaws.com", "scheduler.amazonaws.com"),
    "jobs": ("ecs-tasks.amazonaws.com",),
    "execution": ("ecs-tasks.amazonaws.com",),
}
"""Services that assume each role."""

_IDS = {
    "state_machine": "MachineRole",
    "events": "EventsRole",
    "jobs": "JobsRole",
    "execution": "ExecutionRole",
}
VARIABLES = {
    "state_machine": "METAFLOW_SFN_IAM_ROLE",
    "events": "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE",
    "jobs": "METAFLOW_ECS_S3_ACCESS_IAM_ROLE",
    "execution": "METAFLOW_ECS_FARGATE_EXECUTION_ROLE",
}
_EXECUTION_POLICY = "service-role/AmazonECSTaskExecutionRolePolicy"


class TrustStatement(TypedDict):
    """Who may assume a role, and for what."""

    Effect: str
    Principal: dict[str, list[str]]
    Action: str
    Condition: Conditions


class TrustPolicy(TypedDict):
    """A trust policy of IAM."""

    Version: str
    Statement: list[TrustStatement]


class TemplateResource(TypedDict):
    """A resource of a template; its properties are those of its type."""

    Type: str
    Properties: dict[str, object]


class TemplateOutput(TypedDict):
    """An output of a template; its value is a function of CloudFormation."""

    Description: str
    Value: dict[str, object]


class Template(TypedDict):
    """A template of CloudFormation (its user guide, "Template sections")."""

    AWSTemplateFormatVersion: str
    Description: str
    Resources: dict[str, TemplateResource]
    Outputs: dict[str, TemplateOutput]


def trust_policies(place: Place, roles: Sequence[str]) -> dict[str, TrustPolicy]:
    """Return the trust policies of roles: a service may assume a role for resources of this account only.

    :param place: where in AWS.
    :param roles: keys of :data:`SERVICES`; others are left out.
    """
    return {role: _trust(place, SERVICES[role]) for role in roles if role in SERVICES}


def _trust(place: Place, services: Sequence[str]) -> TrustPolicy:
    statement: TrustStatement = {
        "Effect": "Allow",
        "Principal": {"Service": list(services)},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": place.account}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def roles_template(machine: FlowMachine) -> Template:
    """Return the roles of a deployment and its deployer's policy as one template of CloudFormation.

    Its outputs are the values of Metaflow's settings.

    :param machine: the flow.
    """
    found, trust = machine.resources.policies, machine.trust_policies()
    resources: dict[str, TemplateResource] = {}
    for role in trust:
        properties: dict[str, object] = {
            "AssumeRolePolicyDocument": _substituted(trust[role]),
            "Policies": [{"PolicyName": f"metaflow-{role}", "PolicyDocument": _substituted(found[role])}],
        }
        if role == "execution":
            arn = f"arn:{machine.place.partition}:iam::aws:policy/{_EXECUTION_POLICY}"
            properties["ManagedPolicyArns"] = [arn]
        resources[_IDS[role]] = {"Type": "AWS::IAM::Role", "Properties": properties}
    outputs: dict[str, TemplateOutput] = {
        f"{_IDS[role]}Arn": {"Description": VARIABLES[role], "Value": {"Fn::GetAtt": [_IDS[role], "Arn"]}}
        for role in trust
    }
    statements = [one for name, policy in found.items() if is_deployers(name) for one in policy["Statement"]]
    for number, policy in enumerate(divided(_passing(statements, list(trust))).values(), 1):
        name = f"DeployerPolicy{number}" if number > 1 else "DeployerPolicy"
        properties = {"PolicyDocument": _substituted(policy)}
        resources[name] = {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}
        outputs[f"{name}Arn"] = {"Description": "To attach to who deploys the flow.", "Value": {"Ref": name}}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Roles of the Metaflow flow {machine.manifest.graph.name} on AWS Step Functions.",
        "Resources": resources,
        "Outputs": outputs,
    }


def _passing(statements: Sequence[Statement], roles: Sequence[str]) -> PolicyDocument:
    """Return a deployer's policy that passes the roles of the template in place of those of the configuration."""
    own = ("AskRoles", "PassMachine", "PassEvents", "PassJobs")
    kept = [one for one in statements if one["Sid"] not in own]
    asked = [f"${{{_IDS[role]}.Arn}}" for role in ("state_machine", "events")]
    passed = [_pass(role) for role in roles]
    return document([*kept, allow("AskRoles", list(ASKED), asked), *passed])


def _pass(role: str) -> Statement:
    statement = allow(f"Pass{_IDS[role]}", ["iam:PassRole"], [f"${{{_IDS[role]}.Arn}}"])
    return {**statement, "Condition": {"StringEquals": {"iam:PassedToService": list(SERVICES[role])}}}


def _substituted(value: Any) -> Any:
    """Return a document with ``Fn::Sub`` where a text has placeholders of CloudFormation."""
    if isinstance(value, str):
        return {"Fn::Sub": value} if "${" in value else value
    if isinstance(value, dict):
        return {key: _substituted(one) for key, one in value.items()}
    return [_substituted(one) for one in value] if isinstance(value, list) else value
