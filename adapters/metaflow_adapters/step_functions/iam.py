"""The policies that a deployment needs, and no more: for the machine's role, for its events and for its jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Statement = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in AWS a deployment is.

    :param partition: e.g. ``aws`` or ``aws-cn``.
    :param region: e.g. ``eu-central-1``.
    :param account: number of the account.
    """

    partition: str = "aws"
    region: str = "${AWS::Region}"
    account: str = "${AWS::AccountId}"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource.

        :param service: e.g. ``states``.
        :param resource: e.g. ``stateMachine:Flow``.
        """
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def machine(self, name: str) -> str:
        """Return the ARN of a state machine.

        :param name: its name.
        """
        return self.arn("states", f"stateMachine:{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a deployment uses.

    :param machine: name of the state machine.
    :param helpers: names of the state machines that help it.
    :param definitions: names of job definitions.
    :param queues: names or ARNs of job queues.
    :param bucket: bucket of the datastore.
    :param root: key of the datastore's root.
    :param told: key that begins all that jobs tell the state machine.
    :param distributed: whether it has distributed maps.
    :param tagged: whether its jobs have tags.
    :param logged: whether its history is logged.
    :param topic: SNS topic that is told of runs.
    """

    machine: str
    helpers: Sequence[str]
    definitions: Sequence[str]
    queues: Sequence[str]
    bucket: str
    root: str
    told: str
    distributed: bool
    tagged: bool
    logged: bool
    topic: str | None


def policies(place: Place, needs: Needs) -> dict[str, dict[str, Any]]:
    """Return the policy documents: ``state_machine``, ``events`` and ``jobs``, by the role that needs them.

    :param place: where in AWS.
    :param needs: what the deployment uses.
    """
    started = [place.machine(name) for name in (needs.machine, *needs.helpers)]
    return {
        "state_machine": _document(_machine(place, needs)),
        "events": _document([_allow("Start", ["states:StartExecution"], started)]),
        "jobs": _document(_jobs(place, needs)),
    }


def _machine(place: Place, needs: Needs) -> Iterator[Statement]:
    definitions = [
        place.arn("batch", f"job-definition/{name}{end}") for name in needs.definitions for end in ("", ":*")
    ]
    queues = [one if one.startswith("arn:") else place.arn("batch", f"job-queue/{one}") for one in needs.queues]
    yield _allow("Submit", ["batch:SubmitJob"], [*definitions, *queues])
    # AWS knows no narrower form of these two for jobs that do not exist yet.
    yield _allow("Follow", ["batch:DescribeJobs", "batch:TerminateJob"], ["*"])
    rule = place.arn("events", "rule/StepFunctionsGetEventsForBatchJobsRule")
    yield _allow("Listen", ["events:PutTargets", "events:PutRule", "events:DescribeRule"], [rule])
    bucket = f"arn:{place.partition}:s3:::{needs.bucket}"
    events = ["s3:DeleteObject"] if needs.helpers else []
    yield _allow("Read", ["s3:GetObject", "s3:PutObject", *events], [f"{bucket}/{needs.told}*"])
    if needs.helpers:
        yield {
            **_allow("Look", ["s3:ListBucket"], [bucket]),
            "Condition": {"StringLike": {"s3:prefix": [f"{needs.told}*"]}},
        }
        yield _allow("Start", ["states:StartExecution"], [place.machine(needs.machine)])
    if needs.distributed:
        children = place.arn("states", f"execution:{needs.machine}/*")
        yield _allow("Children", ["states:StartExecution"], [place.machine(needs.machine)])
        actions = ["states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"]
        yield _allow("FollowChildren", actions, [children])
    if needs.tagged:
        yield _allow("Tag", ["batch:TagResource"], [place.arn("batch", "job/*"), *definitions])
    if needs.logged:
        actions = ["CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery"]
        actions += ["ListLogDeliveries", "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups"]
        # These cannot be narrowed (Step Functions developer guide, logging).
        yield _allow("Log", [f"logs:{name}" for name in actions], ["*"])
    if needs.topic:
        yield _allow("Tell", ["sns:Publish"], [needs.topic])


def _jobs(place: Place, needs: Needs) -> Iterator[Statement]:
    bucket = f"arn:{place.partition}:s3:::{needs.bucket}"
    yield _allow("Data", ["s3:GetObject", "s3:PutObject"], [f"{bucket}/{needs.root}*"])
    # Without it S3 says that an object is forbidden where it says elsewhere that there is none.
    yield {
        **_allow("Look", ["s3:ListBucket"], [bucket]),
        "Condition": {"StringLike": {"s3:prefix": [f"{needs.root}*"]}},
    }


def _allow(name: str, actions: Sequence[str], resources: Sequence[str]) -> Statement:
    return {"Sid": name, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _document(statements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
