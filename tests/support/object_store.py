"""A real S3 API for the tests, and AWS Batch: moto's server, a process of its own, where pods can reach it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.engines.aws.enforcement import ACCOUNT
from tests.engines.aws.shared import ADMINISTRATOR, AUTHORITY, EVERYTHING, THROTTLE, SharedAuthority, key_of

from .patience import patient, wait_until

BUCKET = "flows"
CREDENTIALS = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")}
"""As `conftest.py` has set them: an administrator's, for what the tests themselves make and look at."""

ROLES = tuple(f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("machines", "role-EC2", "role-FARGATE"))
"""Roles that may do everything, for what is not made by the product."""

_TRUSTED = ("states", "events", "scheduler", "ecs-tasks")


@dataclass
class ObjectStore:
    """The server; `environment` is what makes Metaflow use it."""

    host: str
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    authority: SharedAuthority = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def root(self) -> str:
        return f"s3://{BUCKET}/metaflow"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **CREDENTIALS,
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": self.root,
            "METAFLOW_S3_ENDPOINT_URL": self.url,
        }

    def client(self, service: str, arn: str = ADMINISTRATOR) -> Any:
        """Return a client that acts as a principal, the administrator by default."""
        import boto3

        given = credentials_of(arn)
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        )

    @contextmanager
    def throttled(self, per_second: int) -> Iterator[None]:
        """Take only so many submissions of jobs in a second."""
        file = self.log.parent / THROTTLE
        file.write_text(str(per_second))
        try:
            yield
        finally:
            file.unlink()

    def has(self, flow: str, run_id: str, name: str) -> bool:
        """Whether a run has an object of `S3(run=…)`."""
        found = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=self._key(flow, run_id, name))
        return bool(found["KeyCount"])

    def cards(self, flow: str, run_id: str) -> list[str]:
        """Return the keys of a run's cards."""
        found = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"metaflow/mf.cards/{flow}/")
        keys = [one["Key"] for one in found.get("Contents", ())]
        return [key for key in keys if f"/{run_id}/" in key and key.endswith(".html")]

    def put(self, flow: str, run_id: str, name: str) -> None:
        """Give a run an empty one."""
        self.client("s3").put_object(Bucket=BUCKET, Key=self._key(flow, run_id, name), Body=b"")

    @staticmethod
    def _key(flow: str, run_id: str, name: str) -> str:
        return f"metaflow/data/{flow}/{run_id}/{name}"

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Stop answering, as a server behind a broken network; the body is entered once somebody has asked in vain."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(self._unanswered, timeout=60, pause=0.2)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def _unanswered(self) -> bool:
        """Whether bytes or connections wait for the server (columns of ``/proc/net/tcp``: see proc_net_tcp.txt)."""
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, _, _, queues, *_ = line.split()
            if int(local.rpartition(":")[2], 16) == self.port and int(queues.rpartition(":")[2], 16):
                return True
        return False


def credentials_of(arn: str) -> dict[str, str]:
    """Return the credentials of a principal of the server, as variables."""
    if arn == ADMINISTRATOR:
        return dict(CREDENTIALS)
    return {**CREDENTIALS, "AWS_ACCESS_KEY_ID": key_of(arn), "AWS_SECRET_ACCESS_KEY": "secret-of-a-principal"}


def trust(*services: str) -> dict[str, Any]:
    """Return a trust policy for services of AWS."""
    names = [f"{one}.amazonaws.com" for one in services]
    statement = {"Effect": "Allow", "Principal": {"Service": names}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def object_store(host: str, log: Path) -> Iterator[ObjectStore]:
    """Start the server on a free port and make the bucket."""
    port = free_port(host)
    authority = SharedAuthority(log.parent / AUTHORITY)
    authority.add(ADMINISTRATOR, [EVERYTHING])
    for role in ROLES:
        authority.add(role, [EVERYTHING], trust(*_TRUSTED))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.aws.server", host, str(port), str(log.parent)],
            cwd=Path(__file__).parent.parent.parent,
            stdout=output,
            stderr=output,
            env={**os.environ, **CREDENTIALS, "TEST_BATCH_LOGS": str(log.parent)},
        )
    store = ObjectStore(host, port, log, process, authority)
    try:
        _wait(store)
        store.client("s3").create_bucket(Bucket=BUCKET)
        yield store
    finally:
        process.kill()
        process.wait()


def _wait(store: ObjectStore) -> None:
    end = time.monotonic() + patient(60)
    while not _answers(store):
        assert time.monotonic() < end, f"the object store did not start: {store.log.read_text()[-2000:]}"
        time.sleep(0.2)


def _answers(store: ObjectStore) -> bool:
    try:
        httpx.get(f"{store.url}/moto-api/", timeout=5)
    except httpx.HTTPError:
        return False
    return True


def batch_queue(store: ObjectStore, platform: str) -> dict[str, str]:
    """Make a job queue on a platform of AWS Batch; return what makes Metaflow use it."""
    name = f"queue-{platform.lower()}"
    environment = f"environment-{platform.lower()}"
    batch, ec2, iam = (store.client(service) for service in ("batch", "ec2", "iam"))
    role = iam.create_role(RoleName=f"role-{platform}", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    resources = {
        "type": platform,
        "maxvCpus": 16,
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
    }
    if platform == "EC2":
        profile = iam.create_instance_profile(InstanceProfileName="nodes")["InstanceProfile"]["Arn"]
        resources.update(minvCpus=0, instanceTypes=["m5.large"], instanceRole=profile)
    batch.create_compute_environment(
        computeEnvironmentName=environment,
        type="MANAGED",
        state="ENABLED",
        serviceRole=role,
        computeResources=resources,
    )
    order = [{"order": 1, "computeEnvironment": environment}]
    batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)
    return {
        "METAFLOW_BATCH_JOB_QUEUE": name,
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": role,
        "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": role,
    }
