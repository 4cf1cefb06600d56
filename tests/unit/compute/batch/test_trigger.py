"""The trigger of a job of AWS Batch ends the job with its task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_metaflow.compute.batch.trigger import MetaflowBatchTrigger


def test_a_kill_of_the_task_ends_its_job_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[dict[str, Any]] = []

    class Client:
        async def __aenter__(self) -> Client:
            return self

        async def __aexit__(self, *_: Any) -> None:
            ended.append({"closed": True})

        async def terminate_job(self, **given: Any) -> None:
            ended.append(given)

    class Hook:
        async def get_async_conn(self) -> Client:
            return Client()

    monkeypatch.setattr(MetaflowBatchTrigger, "hook", lambda _: Hook())
    trigger = MetaflowBatchTrigger(job_id="job-1", region_name="us-east-1", aws_conn_id=None)
    asyncio.run(trigger.on_kill())
    assert ended == [{"jobId": "job-1", "reason": "Task killed by the user"}, {"closed": True}]
