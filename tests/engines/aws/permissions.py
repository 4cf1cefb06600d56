"""Which permissions a call of AWS needs: its action, its resources, the roles that it passes, the tags that it sets.

From the Service Authorization Reference; only the calls that the product makes. A call that is not here is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .authority import Request

BATCH_RULE = "StepFunctionsGetEventsForBatchJobsRule"


@dataclass(frozen=True)
class Passed:
    """A role that a call hands to a service."""

    role: str
    service: str


@dataclass(frozen=True)
class Needed:
    """What a call needs: permissions of the caller, roles that it passes, and what those must be able to do."""

    requests: list[Request]
    passed: list[Passed] = field(default_factory=list)
    of_role: list[Request] = field(default_factory=list)


Tags = Callable[[str], Mapping[str, str]]
"""Returns the tags of a resource by its ARN."""


@dataclass(frozen=True)
class Where:
    """Account and region of a call, and a way to the tags of resources."""

    account: str
    region: str
    tags: Tags = lambda arn: {}

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def needed(service: str, operation: str, given: Mapping[str, Any], where: Where) -> Needed:
    """Return what a call needs.

    :param service: boto's name of the service.
    :param operation: name of the operation in its model.
    :param given: its parameters.
    :param where: account and region.
    """
    known = _SERVICES.get(service, {}).get(operation)
    if known is None:
        raise AssertionError(f"{service}.{operation} is not known here: say which permissions it needs")
    found = known(given, where)
    return found if isinstance(found, Needed) else Needed(list(found))


def _any(*actions: str) -> Callable[[Any, Where], Iterator[Request]]:
    return lambda given, where: (Request(one) for one in actions)


# AWS Batch


def _submit(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    definition, queue = given["jobDefinition"], given["jobQueue"]
    for kind, one in (("job-definition", definition), ("job-queue", queue)):
        yield Request("batch:SubmitJob", one if one.startswith("arn:") else where.arn("batch", f"{kind}/{one}"))
    if given.get("tags"):
        yield Request("batch:TagResource", where.arn("batch", "job/new"), _request_tags(given["tags"]))


def _register(given: Mapping[str, Any], where: Where) -> Needed:
    own = where.arn("batch", f"job-definition/{given['jobDefinitionName']}")
    requests = [Request("batch:RegisterJobDefinition", own)]
    if given.get("tags"):
        requests.append(Request("batch:TagResource", own, _request_tags(given["tags"])))
    nodes = given.get("nodeProperties", {}).get("nodeRangeProperties", [])
    containers = [given.get("containerProperties", {}), *(one["container"] for one in nodes)]
    roles = {one.get(name) for one in containers for name in ("jobRoleArn", "executionRoleArn")}
    return Needed(requests, [Passed(one, "ecs-tasks.amazonaws.com") for one in sorted(filter(None, roles))])


def _deregister(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    arn = given["jobDefinition"]
    yield Request("batch:DeregisterJobDefinition", arn, _resource_tags(where.tags(arn)))


def _terminate(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    arn = where.arn("batch", f"job/{given['jobId']}")
    yield Request("batch:TerminateJob", arn, _resource_tags(where.tags(arn)))


# Step Functions


def _create_machine(given: Mapping[str, Any], where: Where) -> Needed:
    arn = where.arn("states", f"stateMachine:{given['name']}")
    return _machine("states:CreateStateMachine", arn, given, where)


def _update_machine(given: Mapping[str, Any], where: Where) -> Needed:
    return _machine("states:UpdateStateMachine", given["stateMachineArn"], given, where)


def _machine(action: str, arn: str, given: Mapping[str, Any], where: Where) -> Needed:
    requests = [Request(action, arn)]
    if given.get("tags"):
        requests.append(Request("states:TagResource", arn))
    role, of_role = given.get("roleArn"), []
    if ".sync" in given.get("definition", ""):
        # AWS makes or checks the rule at once: "is not authorized to create managed-rule".
        names: tuple[str, ...] = ("PutRule", "PutTargets", "DescribeRule")
        context = {"events:detail-type": "Batch Job State Change", "events:source": "aws.batch"}
        of_role += [Request(f"events:{one}", where.arn("events", f"rule/{BATCH_RULE}"), context) for one in names]
    if (given.get("loggingConfiguration") or {}).get("level", "OFF") != "OFF":
        names = ("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery")
        names += ("ListLogDeliveries", "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups")
        of_role += [Request(f"logs:{one}") for one in names]
    of_role += _of_maps(arn, given.get("definition") or "{}")
    return Needed(requests, [Passed(role, "states.amazonaws.com")] if role else [], of_role)


def _of_maps(arn: str, definition: str) -> Iterator[Request]:
    """What a distributed map does by the role when it runs; here it is asked when the machine is made."""
    if '"DISTRIBUTED"' in definition.replace(" ", ""):
        child = arn.replace(":stateMachine:", ":execution:")
        yield Request("states:StartExecution", arn)
        for one in ("DescribeExecution", "StopExecution"):
            yield Request(f"states:{one}", f"{child}:any")
        yield Request("states:RedriveExecution", f"{child}/map-run:any")


def _of_machine(action: str) -> Callable[[Any, Where], Iterator[Request]]:
    return lambda given, where: iter([Request(f"states:{action}", given["stateMachineArn"])])


def _of_execution(action: str) -> Callable[[Any, Where], Iterator[Request]]:
    return lambda given, where: iter([Request(f"states:{action}", given["executionArn"])])


def _list_executions(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    yield Request("states:ListExecutions", given.get("mapRunArn") or given["stateMachineArn"])


# EventBridge


def _rule(action: str, field_name: str = "Rule") -> Callable[[Any, Where], Iterator[Request]]:
    return lambda given, where: iter([Request(f"events:{action}", where.arn("events", f"rule/{given[field_name]}"))])


def _put_rule(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    pattern = json.loads(given.get("EventPattern") or "{}")
    context = {f"events:{key}": pattern[key][0] for key in ("source", "detail-type") if pattern.get(key)}
    yield Request("events:PutRule", where.arn("events", f"rule/{given['Name']}"), context)


def _put_targets(given: Mapping[str, Any], where: Where) -> Needed:
    passed = [Passed(one["RoleArn"], "events.amazonaws.com") for one in given["Targets"] if one.get("RoleArn")]
    return Needed(list(_rule("PutTargets")(given, where)), passed)


def _schedule(action: str) -> Callable[[Any, Where], Needed]:
    def found(given: Mapping[str, Any], where: Where) -> Needed:
        arn = where.arn("scheduler", f"schedule/{given.get('GroupName', 'default')}/{given['Name']}")
        role = given.get("Target", {}).get("RoleArn")
        return Needed([Request(f"scheduler:{action}", arn)], [Passed(role, "scheduler.amazonaws.com")] if role else [])

    return found


# IAM


def _role(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    yield Request("iam:GetRole", f"arn:aws:iam::{where.account}:role/{given['RoleName']}")


# S3, Secrets Manager, CloudWatch, SNS


def _object(action: str) -> Callable[[Any, Where], Iterator[Request]]:
    return lambda given, where: iter([Request(f"s3:{action}", f"arn:aws:s3:::{given['Bucket']}/{given['Key']}")])


def _list(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    context = {"s3:prefix": given["Prefix"]} if given.get("Prefix") else {}
    yield Request("s3:ListBucket", f"arn:aws:s3:::{given['Bucket']}", context)


def _secret(action: str) -> Callable[[Any, Where], Iterator[Request]]:
    def found(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
        name = given.get("SecretId") or given["Name"]
        # AWS adds six characters to the name of a secret.
        arn = name if name.startswith("arn:") else where.arn("secretsmanager", f"secret:{name}-AbCdEf")
        yield Request(f"secretsmanager:{action}", arn)
        if given.get("Tags"):
            yield Request("secretsmanager:TagResource", arn)

    return found


def _filter_logs(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    yield Request("logs:FilterLogEvents", where.arn("logs", f"log-group:{given['logGroupName']}:log-stream:"))


def _read_log(given: Mapping[str, Any], where: Where) -> Iterator[Request]:
    stream = f"log-group:{given['logGroupName']}:log-stream:{given['logStreamName']}"
    yield Request("logs:GetLogEvents", where.arn("logs", stream))


def _request_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:RequestTag/{name}": value for name, value in tags.items()}


def _resource_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:ResourceTag/{name}": value for name, value in tags.items()}


_SERVICES: dict[str, dict[str, Callable[[Any, Where], Any]]] = {
    "batch": {
        "SubmitJob": _submit,
        "RegisterJobDefinition": _register,
        "DeregisterJobDefinition": _deregister,
        "TerminateJob": _terminate,
        "DescribeJobs": _any("batch:DescribeJobs"),
        "ListJobs": _any("batch:ListJobs"),
        "DescribeJobDefinitions": _any("batch:DescribeJobDefinitions"),
        "DescribeJobQueues": _any("batch:DescribeJobQueues"),
        "DescribeComputeEnvironments": _any("batch:DescribeComputeEnvironments"),
    },
    "stepfunctions": {
        "CreateStateMachine": _create_machine,
        "UpdateStateMachine": _update_machine,
        "ListStateMachines": _any("states:ListStateMachines"),
        "ValidateStateMachineDefinition": _any("states:ValidateStateMachineDefinition"),
        **{one: _of_machine(one) for one in ("DescribeStateMachine", "DeleteStateMachine", "StartExecution")},
        "ListExecutions": _list_executions,
        "DescribeMapRun": lambda given, where: iter([Request("states:DescribeMapRun", given["mapRunArn"])]),
        **{
            one: _of_execution(one)
            for one in (
                "DescribeExecution",
                "StopExecution",
                "RedriveExecution",
                "GetExecutionHistory",
                "ListMapRuns",
                "DescribeStateMachineForExecution",
            )
        },
    },
    "events": {
        "PutRule": _put_rule,
        "PutTargets": _put_targets,
        "DeleteRule": _rule("DeleteRule", "Name"),
        "DisableRule": _rule("DisableRule", "Name"),
        "DescribeRule": _rule("DescribeRule", "Name"),
        "RemoveTargets": _rule("RemoveTargets"),
        "ListTargetsByRule": _rule("ListTargetsByRule"),
        "ListRuleNamesByTarget": _any("events:ListRuleNamesByTarget"),
        "ListRules": _any("events:ListRules"),
        "PutEvents": _any("events:PutEvents"),
    },
    "iam": {
        "GetRole": _role,
        "SimulatePrincipalPolicy": lambda given, where: iter(
            [Request("iam:SimulatePrincipalPolicy", given["PolicySourceArn"])]
        ),
    },
    "scheduler": {f"{one}Schedule": _schedule(f"{one}Schedule") for one in ("Create", "Update", "Delete", "Get")},
    "s3": {
        "GetObject": _object("GetObject"),
        "HeadObject": _object("GetObject"),
        "PutObject": _object("PutObject"),
        "DeleteObject": _object("DeleteObject"),
        "CreateMultipartUpload": _object("PutObject"),
        "UploadPart": _object("PutObject"),
        "CompleteMultipartUpload": _object("PutObject"),
        "ListObjectsV2": _list,
        "ListObjects": _list,
    },
    "secretsmanager": {
        one: _secret(one)
        for one in ("CreateSecret", "PutSecretValue", "DescribeSecret", "DeleteSecret", "GetSecretValue")
    },
    "logs": {"FilterLogEvents": _filter_logs, "GetLogEvents": _read_log},
    "sns": {"Publish": lambda given, where: iter([Request("sns:Publish", given["TopicArn"])])},
}
