"""The policies that a deployment needs, and no more: of its roles here, of who deploys it in ``deployer``.

Actions and resources are those of AWS's Service Authorization Reference; the statements for jobs that a state waits
for, for distributed maps and for logging those of the Step Functions developer guide ("IAM policies").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from metaflow_adapters.step_functions.emit.resources import PolicyDocument, Statement
from metaflow_adapters.step_functions.settings import Place

BATCH_RULE = "StepFunctionsGetEventsForBatchJobsRule"
"""The rule by which Step Functions learns that a job has ended; its role makes it."""

LOG_ACTIONS = (
    "CreateLogDelivery",
    "GetLogDelivery",
    "UpdateLogDelivery",
    "DeleteLogDelivery",
    "ListLogDeliveries",
    "PutResourcePolicy",
    "DescribeResourcePolicies",
    "DescribeLogGroups",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a deployment uses.

    :param machine: name of the state machine.
    :param helpers: names of the state machines that help it.
    :param definitions: patterns of the names of job definitions, those of later versions of the flow too.
    :param queues: names or ARNs of job queues.
    :param bucket: bucket of the datastore.
    :param written: URLs without ``s3://`` that begin what jobs read and write: the flow's own prefixes.
    :param documents: URLs without ``s3://`` that begin what the deployer writes and jobs read.
    :param read: URLs without ``s3://`` that begin what jobs only read, e.g. the data of flows that this one follows.
    :param reports: key that begins all that jobs report to the state machine.
    :param distributed: whether it has distributed maps.
    :param gangs: whether it has ``@parallel`` steps.
    :param tag: name and value of a tag that all its jobs have; None for a flow too long for tags (``emit/jobs.py``).
    :param logged: whether its history is logged.
    :param topic: SNS topic that is notified of runs.
    :param job_secrets: names or ARNs of the secrets that steps read by ``@secrets``.
    :param endpoint_secrets: ARNs of the secrets with addresses of endpoints that are notified of runs.
    """

    machine: str
    helpers: Sequence[str]
    definitions: Sequence[str]
    queues: Sequence[str]
    bucket: str
    written: Sequence[str]
    documents: Sequence[str]
    read: Sequence[str]
    reports: str
    distributed: bool
    gangs: bool
    tag: tuple[str, str] | None
    logged: bool
    topic: str | None
    job_secrets: Sequence[str] = ()
    endpoint_secrets: Sequence[str] = ()


def policies(place: Place, needs: Needs) -> dict[str, PolicyDocument]:
    """Return the policy documents by the role that needs them.

    ``state_machine`` (``METAFLOW_SFN_IAM_ROLE``), ``events`` for rules and schedules
    (``METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE``), ``jobs`` (``METAFLOW_ECS_S3_ACCESS_IAM_ROLE``), and ``execution``
    (``METAFLOW_ECS_FARGATE_EXECUTION_ROLE``) where AWS Batch reads secrets for a job.

    :param place: where in AWS.
    :param needs: what the deployment uses.
    """
    started = [place.machine(name) for name in (needs.machine, *needs.helpers)]
    found = {
        "state_machine": document(_machine(place, needs)),
        "events": document([allow("Start", ["states:StartExecution"], started)]),
        "jobs": document(_jobs(place, needs)),
    }
    if needs.endpoint_secrets:
        # Beside AWS's managed policy AmazonECSTaskExecutionRolePolicy.
        secrets = [secret_arn(place, one) for one in needs.endpoint_secrets]
        found["execution"] = document([allow("Secrets", ["secretsmanager:GetSecretValue"], secrets)])
    return found


def definition_arns(place: Place, needs: Needs) -> list[str]:
    """Return the ARNs of a deployment's job definitions, with and without their revision.

    :param place: where in AWS.
    :param needs: what the deployment uses.
    """
    return [place.arn("batch", f"job-definition/{name}{end}") for name in needs.definitions for end in ("", ":*")]


def terminate_jobs(place: Place, needs: Needs) -> Statement:
    """Return the statement by which jobs of the deployment may be ended.

    AWS knows the jobs of one flow by their tags only; without tags it is all jobs of the account.

    :param place: where in AWS.
    :param needs: what the deployment uses.
    """
    statement = allow("Terminate", ["batch:TerminateJob"], [place.arn("batch", "job/*")])
    if needs.tag is not None:
        name, value = needs.tag
        statement["Condition"] = {"StringEquals": {f"aws:ResourceTag/{name}": value}}
    return statement


def _tag_jobs(place: Place, needs: Needs, tag: tuple[str, str]) -> Statement:
    """Return the statement by which jobs get the deployment's tag when they are submitted, and no other job does.

    Whoever could give the tag to the job of another flow could end it then. A job that is being submitted has no tags
    yet, one of another deployment has its own.
    """
    name, value = tag
    resources = [place.arn("batch", "job/*"), *definition_arns(place, needs)]
    return {
        **allow("Tag", ["batch:TagResource"], resources),
        "Condition": {
            "StringEquals": {f"aws:RequestTag/{name}": value},
            "StringEqualsIfExists": {f"aws:ResourceTag/{name}": value},
        },
    }


def list_bucket(place: Place, bucket: str, prefixes: Sequence[str]) -> Statement:
    """Return the statement by which S3 says of an object that there is none, and lists those of some prefixes.

    Without ``s3:ListBucket`` S3 answers 403 in place of 404. A request for one object has no ``s3:prefix``, and would
    not meet a condition that needs one.

    :param place: where in AWS.
    :param bucket: the bucket.
    :param prefixes: keys that begin what may be listed.
    """
    return {
        **allow("Look", ["s3:ListBucket"], [place.bucket(bucket)]),
        "Condition": {"StringLikeIfExists": {"s3:prefix": [f"{one}*" for one in prefixes]}},
    }


def list_buckets(place: Place, urls: Sequence[str]) -> Iterator[Statement]:
    """Yield the statement of :func:`list_bucket` for each bucket.

    :param place: where in AWS.
    :param urls: URLs without ``s3://`` that begin what may be listed.
    """
    buckets: dict[str, list[str]] = {}
    for url in urls:
        bucket, _, key = url.partition("/")
        buckets.setdefault(bucket, []).append(key)
    for number, (bucket, keys) in enumerate(buckets.items()):
        yield {**list_bucket(place, bucket, keys), "Sid": f"Look{number or ''}"}


def secret_arn(place: Place, name: str) -> str:
    """Return the ARN of a secret, for which AWS adds six characters to its name.

    :param place: where in AWS.
    :param name: name or ARN.
    """
    return name if name.startswith("arn:") else place.arn("secretsmanager", f"secret:{name}-??????")


def allow(name: str, actions: Sequence[str], resources: Sequence[str]) -> Statement:
    """Return a statement that allows actions on resources.

    :param name: its ``Sid``.
    :param actions: e.g. ``s3:GetObject``.
    :param resources: ARNs.
    """
    return {"Sid": name, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def document(statements: Iterable[Statement]) -> PolicyDocument:
    """Return a policy document.

    :param statements: its statements.
    """
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _machine(place: Place, needs: Needs) -> Iterator[Statement]:
    definitions = definition_arns(place, needs)
    queues = [one if one.startswith("arn:") else place.arn("batch", f"job-queue/{one}") for one in needs.queues]
    yield allow("Submit", ["batch:SubmitJob"], [*definitions, *queues])
    # AWS Batch knows no resource for it.
    yield allow("Follow", ["batch:DescribeJobs"], ["*"])
    yield terminate_jobs(place, needs)
    rule = place.arn("events", f"rule/{BATCH_RULE}")
    yield allow("Listen", ["events:PutTargets", "events:PutRule", "events:DescribeRule"], [rule])
    events = ["s3:DeleteObject"] if needs.helpers else []
    objects = f"{place.bucket(needs.bucket)}/{needs.reports}*"
    yield allow("Read", ["s3:GetObject", "s3:PutObject", *events], [objects])
    if needs.helpers:
        yield list_bucket(place, needs.bucket, [needs.reports])
        yield allow("Start", ["states:StartExecution"], [place.machine(needs.machine)])
    if needs.distributed:
        yield from _children(place, needs)
    if needs.tag is not None:
        yield _tag_jobs(place, needs, needs.tag)
    if needs.logged:
        # These cannot be narrowed (Step Functions developer guide, logging).
        yield allow("Log", [f"logs:{name}" for name in LOG_ACTIONS], ["*"])
    if needs.topic:
        yield allow("Tell", ["sns:Publish"], [needs.topic])


def _children(place: Place, needs: Needs) -> Iterator[Statement]:
    """Yield what a distributed map needs; the executions of its items are named after the map run, or are not."""
    yield allow("Children", ["states:StartExecution"], [place.machine(needs.machine)])
    executions = [place.arn("states", f"execution:{needs.machine}{end}") for end in (":*", "/*")]
    actions = ["states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"]
    yield allow("FollowChildren", actions, executions)


def _jobs(place: Place, needs: Needs) -> Iterator[Statement]:
    def objects(prefixes: Sequence[str]) -> list[str]:
        return [f"{place.bucket(one)}*" for one in prefixes]

    yield allow("Data", ["s3:GetObject", "s3:PutObject"], objects(needs.written))
    given = (*needs.documents, *needs.read)
    if given:
        yield allow("Given", ["s3:GetObject"], objects(given))
    yield from list_buckets(place, (*needs.written, *given))
    if needs.job_secrets:
        secrets = [secret_arn(place, one) for one in needs.job_secrets]
        yield allow("Secrets", ["secretsmanager:GetSecretValue"], secrets)
