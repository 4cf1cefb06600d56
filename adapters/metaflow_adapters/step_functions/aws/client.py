"""The services of AWS, by boto3 as Metaflow's configuration makes its clients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from metaflow_orchestration.exceptions import MetaflowProviderError

from .structures import JobQueue, Machine, RegisteredDefinition

_DENIED = ("AccessDeniedException", "AccessDenied", "AccessDeniedFault", "UnauthorizedOperation")
"""Codes by which services of AWS refuse who may not call them."""

_MISSING = re.compile(r"not authorized to perform: ([\w-]+:\w+)(?: on resource: (\S+))?")
_UNTRUSTED = re.compile(r"assume the (?:provided )?role")


class AwsError(MetaflowProviderError, RuntimeError):
    """AWS cannot be reached, or refuses."""

    fix = "Check the credentials, the region and the rights: `sfn check --policies` prints those that a deployer needs."


class NotPermittedError(AwsError):
    """Who calls AWS lacks a permission, or a role lacks one that runs need."""

    fix = "Add the statement that the message names to the policy of who was refused."


class NotTrustedError(AwsError):
    """A role does not trust the service that is to assume it."""

    fix = "Add the statement that the message names to the trust policy of the role."


@contextmanager
def aws_call(what: str, *, role: str | None = None, service: str | None = None) -> Iterator[None]:
    """Turn an error of boto3 into ours; what is missing of permissions or trust is its hint.

    :param what: what was tried.
    :param role: ARN of the role that the call passes.
    :param service: service that is to assume it, e.g. ``scheduler.amazonaws.com``.
    :raises AwsError: in place of an error of boto3.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if role and service and _UNTRUSTED.search(str(error)):
            raise NotTrustedError(f"{what} failed: {error}", hint=trust_hint(role, service)) from None
        if code_of(error) not in _DENIED:
            raise AwsError(f"{what} failed: {error}", hint=_HINT) from None
        raise NotPermittedError(f"{what} failed: {error}", hint=_missing_statement(error)) from None
    except BotoCoreError as error:
        raise AwsError(f"{what} failed: {error}", hint=_HINT) from None


_HINT = "Check the credentials, the region and the rights."


def _missing_statement(error: Any) -> str:
    found = _MISSING.search(str(error))
    if found is None:
        return (
            f"The permission for {error.operation_name} is missing. `sfn check --policies` prints all that is needed."
        )
    statement = {"Effect": "Allow", "Action": found[1], "Resource": found[2] or "*"}
    return f"Add this statement to the policy of who was refused: {json.dumps(statement)}"


def trust_hint(role: str, service: str) -> str:
    """Return how to let a service assume a role.

    :param role: ARN of the role.
    :param service: e.g. ``scheduler.amazonaws.com``.
    """
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return f"Add this statement to the trust policy of {role}: {json.dumps(statement)}"


def code_of(error: Any) -> str:
    """Return the code of an error of boto3.

    :param error: a ``ClientError``.
    """
    return str(error.response.get("Error", {}).get("Code", ""))


class Aws:
    """Clients of AWS, each made when it is first used.

    :param make: makes a client of a service's name; Metaflow's own function if left out.
    """

    def __init__(self, make: Callable[[str], Any] | None = None) -> None:
        self._make = make
        self._queues: dict[str, JobQueue] = {}

    def _client(self, name: str, **settings: Any) -> Any:
        if self._make is not None:
            return self._make(name)
        from metaflow.plugins.aws.aws_client import get_aws_client

        with aws_call("Making a client of AWS"):
            return get_aws_client(name, **({"client_params": settings} if settings else {}))

    @cached_property
    def states(self) -> Any:
        """Client of Step Functions."""
        return self._client("stepfunctions")

    @cached_property
    def batch(self) -> Any:
        """Client of AWS Batch."""
        return self._client("batch")

    @cached_property
    def events(self) -> Any:
        """Client of EventBridge."""
        return self._client("events")

    @cached_property
    def scheduler(self) -> Any:
        """Client of EventBridge Scheduler."""
        return self._client("scheduler")

    @cached_property
    def s3(self) -> Any:
        """Client of S3."""
        return self._client("s3")

    @cached_property
    def logs(self) -> Any:
        """Client of CloudWatch Logs."""
        return self._client("logs")

    @cached_property
    def iam(self) -> Any:
        """Client of IAM, which is only asked for advice: where it cannot be reached nobody waits for it."""
        from botocore.config import Config

        return self._client("iam", config=Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2}))

    @cached_property
    def secrets(self) -> Any:
        """Client of Secrets Manager."""
        return self._client("secretsmanager")

    def machines(self) -> Iterator[tuple[str, str]]:
        """Yield name and ARN of all state machines."""
        with aws_call("Listing state machines"):
            for page in self.states.get_paginator("list_state_machines").paginate():
                for one in page["stateMachines"]:
                    yield one["name"], one["stateMachineArn"]

    def find_machine(self, name: str, arn: str | None = None) -> Machine | None:
        """Return a state machine, None if there is none of that name.

        :param name: its name.
        :param arn: its ARN; without it all state machines of the account are listed.
        """
        from botocore.exceptions import ClientError

        arn = arn or next((arn for found, arn in self.machines() if found == name), None)
        if arn is None:
            return None
        with aws_call(f"Reading the state machine {name}"):
            try:
                found: Machine = self.states.describe_state_machine(stateMachineArn=arn)
            except ClientError as error:
                if code_of(error) != "StateMachineDoesNotExist":
                    raise
                return None
        return found

    def readable_machine(self, name: str, arn: str) -> Machine | None:
        """Return a state machine, None if these credentials may not read it.

        :param name: its name.
        :param arn: its ARN.
        """
        from botocore.exceptions import ClientError

        with aws_call(f"Reading the state machine {name}"):
            try:
                found: Machine = self.states.describe_state_machine(stateMachineArn=arn)
            except ClientError as error:
                if code_of(error) != "AccessDeniedException":
                    raise
                return None
        return found

    def queue(self, name: str) -> JobQueue:
        """Return a job queue, as AWS describes it.

        :param name: its name or ARN.
        :raises AwsError: if there is none.
        """
        if name not in self._queues:
            with aws_call(f"Reading the job queue {name}"):
                queues = self.batch.describe_job_queues(jobQueues=[name])["jobQueues"]
            if not queues:
                raise AwsError(f"there is no job queue {name!r}.", hint="Check METAFLOW_BATCH_JOB_QUEUE.")
            self._queues[name] = queues[0]
        return self._queues[name]

    def platform_of(self, queue: str) -> str:
        """Return the type of a queue's compute environment, as Metaflow reads it.

        :param queue: name or ARN of a job queue.
        :raises AwsError: if there is no such queue.
        """
        environment = self.queue(queue)["computeEnvironmentOrder"][0]["computeEnvironment"]
        with aws_call(f"Reading the compute environment of {queue}"):
            found = self.batch.describe_compute_environments(computeEnvironments=[environment])["computeEnvironments"]
        return str(found[0].get("computeResources", {}).get("type", "EC2"))

    def definitions_of(self, machine: str, tag: str) -> Iterator[RegisteredDefinition]:
        """Yield the active job definitions that were made for a state machine.

        :param machine: its name.
        :param tag: the parameter that holds it, or the tag of those that earlier releases have made.
        """
        with aws_call("Listing job definitions"):
            pages = self.batch.get_paginator("describe_job_definitions").paginate(status="ACTIVE")
            for page in pages:
                for one in page["jobDefinitions"]:
                    if machine in ((one.get("parameters") or {}).get(tag), (one.get("tags") or {}).get(tag)):
                        yield one

    def save(self, url: str, content: bytes) -> None:
        """Put an object into S3.

        :param url: where.
        :param content: its bytes.
        """
        bucket, _, key = url.removeprefix("s3://").partition("/")
        with aws_call(f"Saving {url}"):
            self.s3.put_object(Bucket=bucket, Key=key, Body=content)


def start_parameters(machine: Machine) -> dict[str, str] | None:
    """Return what a state machine says of its flow, ours or one of Metaflow's own deployer; None if it is neither.

    :param machine: the state machine, as AWS describes it.
    """
    definition = json.loads(machine["definition"])
    start = definition.get("States", {}).get(definition.get("StartAt"), {})
    given = start.get("Arguments") or start.get("Parameters") or {}
    found = given.get("Parameters") if isinstance(given, dict) else None
    if not isinstance(found, dict) or "metaflow.owner" not in found:
        return None
    return {name: str(value) for name, value in found.items()}
