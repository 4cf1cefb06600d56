"""AWS Batch jobs of Metaflow tasks: a thin subclass of the operator of Airflow's Amazon provider.

Loaded when a step runs in a job, never when a DAG file is parsed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.amazon.aws.operators.batch import BatchOperator
from airflow.providers.amazon.aws.utils.waiter_with_logging import wait

from airflow_provider_metaflow._compat import require_methods
from airflow_provider_metaflow.compute.batch.trigger import MetaflowBatchTrigger
from metaflow_orchestration.containers.objects import BatchObject

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

require_methods(BatchOperator, "_persist_links", "_persist_cloudwatch_link")

_ALIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")


class MetaflowBatchOperator(BatchOperator):
    """The job of one Metaflow task, of an array of them, or of a gang.

    :param attempt: attempt of the Metaflow task; at the end of the job's name.
    :param first_attempt: the first one since the task was cleared; jobs of those before are ended.
    """

    prepare: Callable[[], BatchObject]
    """Fills in what the job is submitted with, and returns its definition."""

    has_result: Callable[[int], bool]
    """Returns whether an attempt, whose job has succeeded, has left its result."""

    def __init__(self, *, attempt: int, first_attempt: int = 0, **kwargs: Any) -> None:
        super().__init__(job_definition="", **kwargs)
        self.attempt, self._first_attempt = attempt, first_attempt

    @property
    def _client(self) -> Any:
        """boto3's client; the provider types only what it calls itself."""
        return self.hook.client

    def run_job(self, context: Context) -> None:
        """Submit the job and wait for it, as Airflow's operator does.

        :param context: Airflow's task context.
        :raises TaskDeferred: if the triggerer waits.
        """
        # Without the guard that warns when one operator executes another.
        inspect.unwrap(BatchOperator.execute)(self, context)

    def defer(self, *, trigger: BaseTrigger, method_name: str, **kwargs: Any) -> NoReturn:
        """Let the triggerer wait, by a trigger that ends the job when a user kills the task.

        :param trigger: Airflow's own.
        :param method_name: where to go on.
        :param kwargs: see Airflow's operator.
        :raises TaskDeferred: always.
        """
        super().defer(trigger=MetaflowBatchTrigger(**trigger.serialize()[1]), method_name=method_name, **kwargs)

    def submit_job(self, context: Context) -> None:
        """Attach to the task's job that runs or has succeeded while nobody watched it, or submit it.

        :param context: Airflow's task context.
        """
        found = self._own_job()
        if found is not None:
            self.job_id, self.attempt = found
            self.log.info("Attaching to AWS Batch job %s of attempt %d", self.job_id, self.attempt)
            return
        self._register(self.prepare())
        self.job_name = f"{self.job_name}-{self.attempt}"
        super().submit_job(context)

    def monitor_job(self, context: Context) -> None:
        """Wait for the job at an even pace; Airflow's own pauses grow to minutes.

        :param context: Airflow's task context.
        """
        if self.awslogs_enabled:
            super().monitor_job(context)
            return
        self._persist_links(context)
        wait(
            waiter=self.hook.get_waiter("batch_job_complete"),
            waiter_delay=self.poll_interval,
            waiter_max_attempts=sys.maxsize,
            args={"jobs": [self.job_id]},
            failure_message=f"AWS Batch job {self.job_id} failed",
            status_message=f"AWS Batch job {self.job_id} is",
            status_args=["jobs[].status"],
        )
        self._persist_cloudwatch_link(context)

    def _own_job(self) -> tuple[str, int] | None:
        """Return id and attempt of the task's job that a worker has lost sight of."""
        stem = f"{self.job_name}-"
        # One request a state: with a filter by name Batch returns the jobs of all states, and of some weeks.
        filters = [{"name": "JOB_NAME", "values": [f"{stem}*"]}]
        pages = self._client.get_paginator("list_jobs").paginate(jobQueue=self.job_queue, filters=filters)
        succeeded = []
        for job in (job for page in pages for job in page["jobSummaryList"]):
            name, _, number = job["jobName"].rpartition("-")
            if f"{name}-" != stem:
                continue
            if job["status"] in _ALIVE and not self._is_leaving(job["jobId"]):
                if int(number) >= self._first_attempt:
                    return job["jobId"], int(number)
                self._client.terminate_job(jobId=job["jobId"], reason="Its task was cleared")
            elif job["status"] == self.hook.SUCCESS_STATE and int(number) >= self._first_attempt:
                succeeded.append((int(number), job["jobId"]))
        attempt, job_id = max(succeeded, default=(-1, ""))
        return (job_id, attempt) if job_id and self.has_result(attempt) else None

    def _is_leaving(self, job_id: str) -> bool:
        """Return whether a job is being ended, which Batch counts as running until its container has stopped."""
        job = self.hook.get_job_description(job_id)
        return bool(job.get("isTerminated") or job.get("isCancelled"))

    def _register(self, definition: BatchObject) -> None:
        client, name = self._client, definition["jobDefinitionName"]
        if not client.describe_job_definitions(jobDefinitionName=name, status="ACTIVE")["jobDefinitions"]:
            client.register_job_definition(**definition)
            self.log.info("Registered the job definition %s", name)
        self.job_definition = name

    def platform(self) -> str:
        """Return the type of the queue's compute environment, e.g. ``FARGATE``."""
        client = self._client
        queues = client.describe_job_queues(jobQueues=[self.job_queue])["jobQueues"]
        if not queues:
            return ""
        environment = queues[0]["computeEnvironmentOrder"][0]["computeEnvironment"]
        found = client.describe_compute_environments(computeEnvironments=[environment])["computeEnvironments"]
        return str(found[0]["computeResources"]["type"])

    def status_reason(self) -> tuple[str, int | None]:
        """Return why the job failed, and the exit code of its container."""
        if not self.job_id:
            return "it was not submitted", None
        job = self.hook.get_job_description(self.job_id)
        container = job.get("container") or {}
        reasons = [job.get("statusReason"), container.get("reason")]
        message = ": ".join(reason for reason in reasons if reason) or f"its job is {job.get('status')}"
        return message, container.get("exitCode")

    def on_kill(self) -> None:
        """End the job."""
        if self.job_id:
            super().on_kill()  # type: ignore[no-untyped-call]
