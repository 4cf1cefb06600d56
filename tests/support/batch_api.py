"""AWS Batch behind boto3's own client: jobs that end, stay or vanish as a test wants, which moto's do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters

from metaflow_orchestration.graph.identity import position_in_step
from tests.engines.aws.authority import Principal, Request
from tests.engines.aws.permissions import Where, needed
from tests.support.containers import told
from tests.support.documented import documented_policy
from tests.support.manifests import QUEUE

Document = dict[str, Any]


_, _, _, REGION, ACCOUNT, _QUEUE = QUEUE.split(":")
_NAMES = {
    # The execution role of the tests.
    "arn:aws:iam::ACCOUNT:role/EXECUTION": "role",
    "REGION": REGION,
    "ACCOUNT": ACCOUNT,
    "QUEUE": _QUEUE.rpartition("/")[2],
}
WORKER = Principal(f"arn:aws:iam::{ACCOUNT}:role/airflow", (documented_policy("worker-policy", **_NAMES),))
"""Airflow's worker and triggerer, with the documented policy."""


def _authorize(operation: str, given: Document) -> None:
    """See that the documented policy of the worker allows a call."""
    found = needed("batch", operation, given, Where(ACCOUNT, REGION))
    passed = [Request("iam:PassRole", one.role, {"iam:PassedToService": one.service}) for one in found.passed]
    for request in (*found.requests, *passed):
        assert WORKER.allows(request), f"docs/batch/worker-policy.json does not allow {request}"


@dataclass
class BatchApi:
    """The service's objects.

    :ivar run: what the container of a job does: takes its document and the index in an array; returns exit code and
        reason. None leaves the job running.
    """

    run: Callable[[Document, int], tuple[int, str]] | None = None
    platform: str = "FARGATE"
    submitted: list[Document] = field(default_factory=list)
    definitions: list[Document] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    jobs: dict[str, Document] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> BatchApi:
        """Take the place of the service; parameters are checked as boto3 checks them."""

        def call(client: Any, operation: str, parameters: Document) -> Any:
            assert client.meta.service_model.service_name == "batch"
            validate_parameters(parameters, client.meta.service_model.operation_model(operation).input_shape)
            _authorize(operation, parameters)
            if operation in self.refuse:
                raise ClientError({"Error": {"Code": "ClientException", "Message": self.refuse[operation]}}, operation)
            return getattr(self, f"_{operation}")(**parameters)

        monkeypatch.setattr(BaseClient, "_make_api_call", call)
        return self

    def told(self, number: int = -1) -> Document:
        """Return what a job was told to run."""
        given = self.submitted[number]
        if "nodeOverrides" in given:
            overrides = given["nodeOverrides"]["nodePropertyOverrides"][0]["containerOverrides"]
        else:
            overrides = given["containerOverrides"]
        return told({one["name"]: one["value"] for one in overrides["environment"]})

    def names(self) -> list[str]:
        """Return step and positions of the tasks of the jobs, e.g. ``body/t-0,t-1``."""
        found = [self.told(number) for number in range(len(self.submitted))]
        tasks = [[position_in_step(one["step"], task["task_id"]) for task in one["tasks"]] for one in found]
        return [f"{one['step']}/{','.join(names)}" for one, names in zip(found, tasks, strict=True)]

    def end(self, job_id: str) -> None:
        """Let a job do its work and end."""
        job = self.jobs[job_id]
        assert self.run is not None
        ends = [self.run(self.told(job["number"]), index) for index in range(job["size"])]
        code, reason = next((one for one in ends if one[0]), (0, ""))
        job.update(status="FAILED" if code else "SUCCEEDED", statusReason=reason, container={"exitCode": code})

    def _SubmitJob(self, **given: Any) -> Document:
        self.submitted.append(given)
        number, job_id = len(self.submitted) - 1, f"id-{len(self.submitted) - 1}"
        size = given.get("arrayProperties", {}).get("size", 1)
        self.jobs[job_id] = {
            "jobId": job_id, "jobName": given["jobName"], "status": "RUNNING", "size": size, "number": number
        }  # fmt: skip
        if self.run is not None:
            self.end(job_id)
        return {"jobId": job_id, "jobName": given["jobName"]}

    def _DescribeJobs(self, jobs: list[str]) -> Document:
        return {"jobs": [self.jobs[one] for one in jobs if one in self.jobs]}

    def _ListJobs(self, filters: list[Document], **_: Any) -> Document:
        (stem,) = filters[0]["values"]
        named = [one for one in self.jobs.values() if one["jobName"].startswith(stem.rstrip("*"))]
        return {"jobSummaryList": named}

    def _TerminateJob(self, jobId: str, reason: str) -> Document:
        self.terminated.append(jobId)
        self.jobs[jobId].update(isTerminated=True, status="FAILED", statusReason=reason)
        return {}

    def _DescribeJobDefinitions(self, jobDefinitionName: str, **_: Any) -> Document:
        return {"jobDefinitions": [one for one in self.definitions if one["jobDefinitionName"] == jobDefinitionName]}

    def _RegisterJobDefinition(self, **given: Any) -> Document:
        self.definitions.append(given)
        return {}

    def _DescribeJobQueues(self, jobQueues: list[str]) -> Document:
        return {
            "jobQueues": [{"computeEnvironmentOrder": [{"computeEnvironment": "e"}]}] if jobQueues == [QUEUE] else []
        }

    def _DescribeComputeEnvironments(self, **_: Any) -> Document:
        return {"computeEnvironments": [{"computeResources": {"type": self.platform}}]}
