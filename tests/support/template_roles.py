"""The roles that Metaflow's reference infrastructure makes, as far as a deployment to Step Functions meets them.

After `aws/cloudformation/metaflow-cfn-template.yml` of `outerbounds/metaflow-tools` (7dd54ef): `MetaflowUserRole`,
`StepFunctionsRole`, `EventBridgeRole`, `BatchS3TaskRole`. Of each all that is permitted in the services that are used.
"""

from __future__ import annotations

from typing import Any

from tests.engines.aws.authority import Authority
from tests.engines.aws.enforcement import ACCOUNT, REGION
from tests.support.aws_account import BUCKET, DEPLOYER, QUEUE, SETTINGS

_BUCKET = f"arn:aws:s3:::{BUCKET}"


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def _policy(*statements: tuple[list[str], Any] | tuple[list[str], Any, dict[str, Any]]) -> dict[str, Any]:
    found = []
    for actions, resource, *condition in statements:
        one = {"Effect": "Allow", "Action": actions, "Resource": resource}
        found.append({**one, "Condition": condition[0]} if condition else one)
    return {"Version": "2012-10-17", "Statement": found}


def _trust(service: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


_SUBMITTED = [_arn("batch", f"job-queue/{QUEUE}"), _arn("batch", "job-definition/*:*")]

USER = _policy(
    (["s3:*Object"], [_BUCKET, f"{_BUCKET}/*"]),
    # Every role of the stack; those of the recorded flows' jobs are of the second account.
    (["iam:PassRole"], [f"arn:aws:iam::{account}:role/*" for account in (ACCOUNT, "123")]),
    (
        [
            "batch:TerminateJob", "batch:DescribeJobs", "batch:DescribeJobDefinitions", "batch:DescribeJobQueues",
            "batch:RegisterJobDefinition", "batch:DescribeComputeEnvironments",
        ],
        "*",
    ),
    (["batch:SubmitJob"], _SUBMITTED),
    (["s3:ListBucket"], _BUCKET),
    (["logs:GetLogEvents"], _arn("logs", "log-group:*:log-stream:*")),
    (["states:ListStateMachines"], "*"),
    (
        [
            "states:DescribeStateMachine", "states:UpdateStateMachine", "states:StartExecution",
            "states:CreateStateMachine", "states:ListExecutions", "states:StopExecution",
        ],
        _arn("states", "stateMachine:*"),
    ),
    (["events:PutTargets", "events:DisableRule"], _arn("events", "rule/*")),
    (["events:PutRule"], _arn("events", "rule/*"), {"Null": {"events:source": "true"}}),
)  # fmt: skip

_BATCH_RULE = _arn("events", "rule/StepFunctionsGetEventsForBatchJobsRule")

MACHINES = _policy(
    (
        [
            "batch:TerminateJob", "batch:DescribeJobs", "batch:DescribeJobDefinitions", "batch:DescribeJobQueues",
            "batch:RegisterJobDefinition",
        ],
        "*",
    ),
    (["batch:SubmitJob"], _SUBMITTED),
    (["s3:ListBucket"], _BUCKET),
    (["s3:*Object"], [_BUCKET, f"{_BUCKET}/*"]),
    (
        [
            "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
            "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies",
            "logs:DescribeLogGroups",
        ],
        "*",
    ),
    (["events:PutTargets", "events:DescribeRule"], _BATCH_RULE),
    (["events:PutRule"], _BATCH_RULE, {"StringEquals": {"events:detail-type": "Batch Job State Change"}}),
)  # fmt: skip

EVENTS = _policy((["states:StartExecution"], _arn("states", "stateMachine:*")))

JOBS = _policy(
    (["s3:ListBucket"], _BUCKET),
    (["s3:PutObject", "s3:GetObject", "s3:DeleteObject"], f"{_BUCKET}/*"),
)


def grant_template(authority: Authority, job_roles: set[str]) -> None:
    """Give deployer and roles what the template gives them, and nothing else.

    :param authority: who may do what in the account.
    :param job_roles: roles that jobs name for their containers.
    """
    authority.add(DEPLOYER, [USER])
    authority.add(str(SETTINGS.machine_role), [MACHINES], _trust("states.amazonaws.com"))
    authority.add(str(SETTINGS.events_role), [EVENTS], _trust("events.amazonaws.com"))
    authority.add(str(SETTINGS.execution_role), [JOBS], _trust("ecs-tasks.amazonaws.com"))
    for arn in job_roles:
        authority.add(arn, [JOBS], _trust("ecs-tasks.amazonaws.com"))
