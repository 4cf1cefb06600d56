"""Waits for a job of AWS Batch without holding a worker, and ends it when its task is killed.

Loaded when a step runs in a job.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.triggers.batch import BatchJobTrigger


class MetaflowBatchTrigger(BatchJobTrigger):
    """The trigger of Airflow's Amazon provider, which leaves the job alone when a user clears or marks the task."""

    async def on_kill(self) -> None:
        """End the job. Airflow calls this from 3.3 on."""
        hook: Any = self.hook()
        async with await hook.get_async_conn() as client:
            await client.terminate_job(jobId=self.return_value, reason="Task killed by the user")
