"""AWS Step Functions for the tests: moto's interpreter with the mends of `tests/engines/aws/`, jobs as processes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaflow_adapters.step_functions.permissions.deployer import is_deployers
from tests.engines.aws.shared import ADMINISTRATOR

from .interpreter import python
from .metadata_service import metadata_service
from .object_store import BUCKET, ObjectStore, batch_queue, credentials_of
from .patience import patient
from .results import artifacts

ACCOUNT, REGION = "123456789012", "us-east-1"
STATES = f"arn:aws:states:{REGION}:{ACCOUNT}"

OWN_OBJECTS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{BUCKET}{key}" for key in ("", "/unlucky/*", "/poisoned/*", "/stubborn/*")],
        }
    ],
}
"""What steps of the tests' flows read and write outside of Metaflow's datastore."""


@dataclass
class Execution:
    """One run of a flow."""

    aws: StepFunctions
    flow: str
    arn: str

    @property
    def run_id(self) -> str:
        return f"sfn-{self.arn.rpartition(':')[2]}"

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = self.aws.client("stepfunctions").describe_execution(executionArn=self.arn)
        return found

    def wait(self, timeout: float = 300, expect: str = "SUCCEEDED") -> dict[str, Any]:
        end = time.monotonic() + patient(timeout)
        while time.monotonic() < end:
            found = self.get()
            if found["status"] != "RUNNING":
                assert found["status"] == expect, self.story(found)
                return found
            time.sleep(1)
        raise AssertionError(f"{self.arn} did not end in {timeout} s:\n{self.story(self.get())}")

    def history(self) -> list[dict[str, Any]]:
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=self.arn)
        return [event for page in pages for event in page["events"]]

    def transitions(self) -> int:
        return sum(event["type"].endswith("StateEntered") for event in self.history())

    def entered(self) -> Counter[str]:
        """How often each state was entered."""
        return Counter(
            event["stateEnteredEventDetails"]["name"]
            for event in self.history()
            if event["type"].endswith("StateEntered")
        )

    def story(self, found: dict[str, Any]) -> str:
        lines = [f"{self.arn}: {found['status']} {found.get('error')} {str(found.get('cause'))[:1500]}"]
        lines += [f"  {event['type']}" for event in self.history()[-15:]]
        failed = [one for one in self.aws.jobs() if one["status"] == "FAILED" and one["jobName"].startswith(self.flow)]
        for job in failed[:2]:
            lines += [f"--- {job['jobName']}: {job.get('statusReason')}", self.aws.job_log(job["jobId"])[-2000:]]
        return "\n".join(lines)

    def artifacts(self) -> dict[str, Any]:
        return artifacts(self.aws.store.root, self.flow, self.run_id, environment=self.aws.environment)


@dataclass(frozen=True)
class Principals:
    """Who acts for a deployment: its deployer and its roles, which no other deployment has.

    :param name: of the deployment.
    """

    name: str

    @property
    def deployer(self) -> str:
        return f"arn:aws:iam::{ACCOUNT}:user/deployer-{self.name}"

    @property
    def machine(self) -> str:
        return self._role("machine")

    @property
    def events(self) -> str:
        return self._role("events")

    @property
    def jobs(self) -> str:
        return self._role("jobs")

    @property
    def execution(self) -> str:
        return self._role("execution")

    @property
    def environment(self) -> dict[str, str]:
        """The deployer's credentials, and Metaflow's settings for the roles."""
        return {
            **credentials_of(self.deployer),
            "METAFLOW_SFN_IAM_ROLE": self.machine,
            "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": self.events,
            "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": self.jobs,
            "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": self.execution,
        }

    def _role(self, kind: str) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{kind}-{self.name}"


@dataclass
class StepFunctions:
    """Step Functions, and Metaflow's settings for it."""

    store: ObjectStore
    environment: dict[str, str] = field(default_factory=dict)
    """An administrator's; that of a deployment is in its ``principals``."""
    granted: set[Principals] = field(default_factory=set)
    enforces: bool = True
    """Whether each deployment has principals of its own here; a real account has those of its settings."""

    def client(self, service: str, *principal: str) -> Any:
        """Return a client of the administrator, or of a principal."""
        return self.store.client(service, *principal)

    def flow(
        self, flow_file: Path, *arguments: str, top: tuple[str, ...] = (), check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `python FLOW sfn …` by the deployer of the flow, who may do what is printed for it, and no more."""
        named = arguments[0] == "--name"
        who = self.principals(arguments[1] if named else flow_file.stem)
        if self.enforces and ("create" in arguments or who not in self.granted):
            options = arguments[arguments.index("create") + 1 :] if "create" in arguments else ()
            self.grant(who, flow_file, *options, top=(*top, "sfn", *(arguments[:2] if named else ())))
        acting = who.environment if self.enforces else {}
        return self._run(flow_file, [*top, "sfn", *arguments], {**acting, **environment}, check=check)

    def create(self, flow_file: Path, *arguments: str, top: tuple[str, ...] = (), name: str | None = None) -> None:
        named = ["--name", name] if name else []
        self.flow(flow_file, *named, "create", "--gang-poll-seconds", "2", *arguments, top=top)

    def principals(self, name: str) -> Principals:
        """Return the principals of a deployment."""
        return Principals(name)

    def grant(self, who: Principals, flow_file: Path, *options: str, top: tuple[str, ...] = ("sfn",)) -> None:
        """Give the principals of a deployment exactly what `sfn check --policies` prints for it."""
        # By an administrator: Metaflow stores an IncludeFile whatever the command is, and nobody else may do so yet.
        acting = {**who.environment, **credentials_of(ADMINISTRATOR)}
        printed = self._run(flow_file, [*top, "check", "--policies", *options], acting).stdout
        self.allow(who, json.loads(printed[printed.index("{\n") :]))

    def allow(self, who: Principals, printed: dict[str, Any]) -> None:
        """Give principals what is printed for them."""
        authority, trust = self.store.authority, printed["trust"]
        authority.add(who.deployer, [one for name, one in printed.items() if is_deployers(name)])
        authority.add(who.machine, [printed["state_machine"]], trust["state_machine"])
        authority.add(who.events, [printed["events"]], trust["events"])
        # What the steps of the tests' flows do by themselves is their authors' to allow.
        authority.add(who.jobs, [printed["jobs"], OWN_OBJECTS], trust["jobs"])
        self.granted.add(who)
        if "execution" in printed:
            authority.add(who.execution, [printed["execution"]], trust["execution"])

    def _run(
        self, flow_file: Path, verb: list[str], environment: Mapping[str, str], *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [python(), flow_file.name, "--no-pylint", *verb],
            cwd=flow_file.parent,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment, **environment},
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def start(self, machine: str, flow: str, given: Mapping[str, Any] | None = None, **named: str) -> Execution:
        """Start an execution, as `aws stepfunctions start-execution` does."""
        answer = self.client("stepfunctions").start_execution(
            stateMachineArn=f"{STATES}:stateMachine:{machine}", input=json.dumps(given or {}), **named
        )
        return Execution(self, flow, answer["executionArn"])

    def runs(self, machine: str, flow: str) -> list[Execution]:
        """All executions of a machine."""
        arn = f"{STATES}:stateMachine:{machine}"
        found = self.client("stepfunctions").list_executions(stateMachineArn=arn)["executions"]
        return [Execution(self, flow, one["executionArn"]) for one in found]

    def definition(self, machine: str) -> dict[str, Any]:
        arn = f"{STATES}:stateMachine:{machine}"
        text = self.client("stepfunctions").describe_state_machine(stateMachineArn=arn)["definition"]
        found: dict[str, Any] = json.loads(text)
        return found

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, whatever their status."""
        batch = self.client("batch")
        found: list[dict[str, Any]] = []
        for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"):
            queue = self.environment["METAFLOW_BATCH_JOB_QUEUE"]
            listed = batch.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]
            ids = [one["jobId"] for one in listed]
            found += batch.describe_jobs(jobs=ids)["jobs"] if ids else []
        return found

    def job_log(self, job_id: str) -> str:
        logs = self.store.log.parent.glob(f"{job_id.replace(':', '-')}-*.log")
        return "".join(log.read_text(errors="replace") for log in sorted(logs))


@contextmanager
def step_functions(store: ObjectStore) -> Iterator[StepFunctions]:
    """Metaflow's settings for the server of an object store, and a metadata service."""
    with metadata_service("") as service:
        yield StepFunctions(store, _settings(store, service.url))


def _settings(store: ObjectStore, service: str) -> dict[str, str]:
    role = f"arn:aws:iam::{ACCOUNT}:role/machines"
    return {
        **store.environment,
        **batch_queue(store, "EC2"),
        "AWS_ENDPOINT_URL": store.url,
        "METAFLOW_SFN_IAM_ROLE": role,
        "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": role,
        "METAFLOW_BATCH_CONTAINER_IMAGE": "python:3.11",
        # The nodes of a gang wait for each other by it.
        "METAFLOW_SERVICE_URL": service,
        "METAFLOW_SERVICE_INTERNAL_URL": service,
        "METAFLOW_DEFAULT_METADATA": "service",
        "METAFLOW_S3_WORKER_COUNT": "1",
    }
