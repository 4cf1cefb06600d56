"""An AWS account in this process: moto behind the layer that enforces policies and quotas, jobs as functions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from metaflow_adapters.step_functions.aws.client import Aws
from metaflow_adapters.step_functions.machine import FlowMachine
from metaflow_adapters.step_functions.permissions.deployer import is_deployers
from metaflow_adapters.step_functions.settings import AwsSettings
from tests.engines.aws.authority import Authority
from tests.engines.aws.enforcement import ACCOUNT, REGION, Enforcement, client_of, error

DEPLOYER = f"arn:aws:iam::{ACCOUNT}:user/deployer"
QUEUE = "queue-ec2"
BUCKET = "bucket"
STATES = f"arn:aws:states:{REGION}:{ACCOUNT}"
LOG_GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:histories:*"

SETTINGS = AwsSettings(
    machine_role=f"arn:aws:iam::{ACCOUNT}:role/machines",
    events_role=f"arn:aws:iam::{ACCOUNT}:role/events",
    execution_role=f"arn:aws:iam::{ACCOUNT}:role/execution",
    log_group=LOG_GROUP,
    region=REGION,
)
ROLES = {"state_machine": SETTINGS.machine_role, "events": SETTINGS.events_role, "execution": SETTINGS.execution_role}


_OWN: dict[str, Any] = {}
"""Clients of tests themselves."""


@dataclass(frozen=True)
class Place:
    """Where a job is in the flow: step, run, path of indices, and which try it is."""

    step: str
    run_id: str
    at: str
    attempt: int


@dataclass
class Job:
    """One try of a job, as its container sees it."""

    account: Account
    role: str
    variables: Mapping[str, str]
    name: str

    @property
    def place(self) -> Place | None:
        """Read from its variables; None for jobs that follow a run."""
        if "METAFLOW_PLACE" not in self.variables:
            return None
        step, run_id, at, *tries = self.variables["METAFLOW_PLACE"].split("/")
        index = self.variables.get("AWS_BATCH_JOB_ARRAY_INDEX")
        attempt = int(tries[0]) if tries else int(self.variables["AWS_BATCH_JOB_ATTEMPT"]) - 1
        return Place(step, run_id, at if index is None else f"{at}{index}-", attempt)

    def client(self, service: str) -> Any:
        """Return a client that acts by the job's role."""
        return self.account.client(service, self.role)

    def tell(self, fact: Any) -> None:
        """Tell the state machine a fact, as ``machine_task.py`` does."""
        place = self.place
        assert place is not None
        flow = self.account.flow
        key = f"metaflow/mf.sfn/{flow}/{place.run_id}/{place.at}/{place.step}"
        body = json.dumps({"reported": fact, "iteration": 0}).encode()
        self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


Task = Callable[[Job], "int | None"]
"""What a job does: it returns an exit status, 0 if None."""


@dataclass
class Account:
    """Its clients, what is enforced, and what its jobs do."""

    enforcement: Enforcement
    flow: str = ""
    task: Task = lambda job: None
    ran: list[Job] = field(default_factory=list)

    def client(self, service: str, arn: str | None = None) -> Any:
        """Return a client that acts as a principal; one of the test's own, to which all is allowed, without."""
        if service not in _OWN:
            _OWN[service] = boto3.client(service, region_name=REGION)
        if arn is None:
            return _OWN[service]
        return client_of(service, arn, lambda: boto3.client(service, region_name=REGION))

    def aws(self, arn: str = DEPLOYER) -> Aws:
        """Return the clients of the product, which act as a principal."""
        return Aws(lambda service: self.client(service, arn))

    def grant(self, machine: FlowMachine) -> None:
        """Give deployer and roles exactly what is printed for a flow."""
        policies, trust = machine.resources.policies, machine.trust_policies()
        authority = self.enforcement.authority
        # What `sfn check --policies` prints: a round trip through JSON.
        policies, trust = json.loads(json.dumps({**policies})), json.loads(json.dumps(trust))
        authority.add(DEPLOYER, [one for name, one in policies.items() if is_deployers(name)])
        for role, arn in ROLES.items():
            if role in policies:
                authority.add(str(arn), [policies[role]], trust[role])
        for arn in job_roles(machine):
            authority.add(arn, [policies["jobs"]], trust["jobs"])

    def deploy(self, machine: FlowMachine) -> str:
        """Deploy a flow with the permissions that are printed for it, and no others."""
        self.flow = machine.manifest.graph.name
        self.grant(machine)
        return machine.deploy(self.aws())

    def start(self, machine: FlowMachine, **parameters: Any) -> str:
        """Start a run by the deployer and return the ARN of its execution."""
        run_id = machine.trigger(self.aws(), **parameters)
        return f"{STATES}:execution:{machine.name}:{run_id.removeprefix('sfn-')}"

    def ended(self, execution_arn: str, timeout: float = 30) -> dict[str, Any]:
        """Wait until an execution has ended."""
        states = self.client("stepfunctions")
        end = time.monotonic() + timeout
        while (found := states.describe_execution(executionArn=execution_arn))["status"] == "RUNNING":
            assert time.monotonic() < end, f"{execution_arn} has not ended"
            time.sleep(0.02)
        return dict(found)

    def run(self, machine: FlowMachine, **parameters: Any) -> dict[str, Any]:
        """Deploy a flow, run it once, and return its execution."""
        self.deploy(machine)
        return self.ended(self.start(machine, **parameters))

    def executions(self, machine: str) -> list[dict[str, Any]]:
        """List the executions of a machine."""
        states = self.client("stepfunctions")
        return list(states.list_executions(stateMachineArn=f"{STATES}:stateMachine:{machine}")["executions"])

    def wait(self, condition: Callable[[], Any], timeout: float = 20) -> Any:
        """Wait until a condition holds, and return what it gives."""
        end = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < end, "the condition did not come true in time"
            time.sleep(0.02)
        return found

    def attempts(self, step: str) -> list[int]:
        """The tries of a step that ran, in their order."""
        return [one.place.attempt for one in self.ran if one.place is not None and one.place.step == step]


def job_roles(machine: FlowMachine) -> set[str]:
    """Return the roles that the job definitions of a flow name for their containers."""
    found = set()
    for one in machine.resources.job_definitions:
        nodes = one.get("nodeProperties", {}).get("nodeRangeProperties", [])
        containers = [one.get("containerProperties"), *(node["container"] for node in nodes)]
        found |= {container["jobRoleArn"] for container in containers if container}
    return found


@contextmanager
def aws_account(folder: Path) -> Iterator[Account]:
    """Make an account with a bucket and a job queue, as an installation of Metaflow has them."""
    from moto import mock_aws
    from moto.core.config import default_user_config

    from tests.engines.aws import batch_jobs, enforcement, machines, objects, rules, states

    from .object_store import batch_queue

    _install_once((batch_jobs, objects, states, rules, machines))
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    account = Account(Enforcement(Authority()))
    kept = dict(os.environ)
    os.environ.update(TEST_BATCH_LOGS=str(folder), AWS_DEFAULT_REGION=REGION)
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        account.client("s3").create_bucket(Bucket=BUCKET)
        batch_queue(account, "EC2")
        batch_jobs.in_process = lambda job, variables: _in_process(account, job, variables)
        enforcement.install(account.enforcement)
        try:
            yield account
        finally:
            _end_executions()
            enforcement.install(None)
            batch_jobs.in_process = None
            os.environ.clear()
            os.environ.update(kept)


def refusing(number: int) -> tuple[Callable[[str, str, str], None], list[str]]:
    """Refuse the deployer's call of that number; the list holds which it was."""
    seen: list[str] = []
    refused: list[str] = []

    def interrupt(arn: str, service: str, operation: str) -> None:
        if arn != DEPLOYER:
            return
        seen.append(operation)
        if len(seen) == number:
            refused.append(operation)
            raise error("AccessDeniedException", f"{operation} is refused", operation, 403)

    return interrupt, refused


def _end_executions() -> None:
    """End what a test has left running: its next states would submit jobs in the account of the test that follows."""
    from moto.stepfunctions.models import stepfunctions_backends
    from moto.stepfunctions.parser.utils import TMP_THREADS

    for machine in stepfunctions_backends[ACCOUNT][REGION].state_machines:
        for one in machine.executions:
            if one.exec_status == "RUNNING" and one.exec_worker.env is not None:
                one.exec_worker.env.set_stop(stop_date=one.start_date, error=None, cause="the test has ended")
    for thread in TMP_THREADS:
        # moto lists a thread just before it starts it.
        until = time.monotonic() + 5
        while thread.ident is None and time.monotonic() < until:
            time.sleep(0.01)
        if thread.ident is not None:
            thread.join(10)
    TMP_THREADS.clear()


def _in_process(account: Account, job: Any, variables: dict[str, str]) -> tuple[int, str]:
    definition = job.job_definition
    nodes = (definition.node_properties or {}).get("nodeRangeProperties", [])
    container = definition.container_properties or nodes[0]["container"]
    seen = Job(account, container["jobRoleArn"], variables, job.job_name)
    account.ran.append(seen)
    status = account.task(seen) or 0
    return status, f"{job.job_name} ended with {status}\n"


_installed = False


def _install_once(engines: tuple[Any, ...]) -> None:
    global _installed  # noqa: PLW0603
    if _installed:
        return
    _installed = True
    from tests.engines.aws import states

    states.POLL_SECONDS, states.SECOND = 0.02, 0.05
    for one in engines:
        one.install()
