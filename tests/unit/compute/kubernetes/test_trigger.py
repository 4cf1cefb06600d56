"""A deferred gang ends as a whole when its task is marked as failed or cleared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_metaflow.compute.kubernetes import trigger as gang
from airflow_provider_metaflow.compute.kubernetes.trigger import JOB_KEY, MetaflowGangTrigger


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls that delete jobs."""
    calls: list[tuple[Any, ...]] = []

    class Batch:
        def __init__(self, connection: str) -> None:
            assert connection == "connection"

        async def delete_namespaced_job(self, *given: Any, **named: Any) -> None:
            calls.append((*given, named["propagation_policy"]))

    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        yield "connection"

    monkeypatch.setattr(gang.client, "BatchV1Api", Batch)
    monkeypatch.setattr(MetaflowGangTrigger, "hook", SimpleNamespace(get_conn=connection))
    return calls


def trigger(**given: Any) -> MetaflowGangTrigger:
    return MetaflowGangTrigger(
        pod_name="gang-0", pod_namespace="flows", trigger_start_time=datetime.now(timezone.utc),
        base_container_name="base", trigger_kwargs={JOB_KEY: "gang"}, **given,
    )  # fmt: skip


def test_marking_the_task_deletes_the_job_with_all_its_pods(deleted: list[tuple[Any, ...]]) -> None:
    asyncio.run(trigger().on_kill())
    assert deleted == [("gang", "flows", "Background")]


def test_a_gang_that_has_ended_or_shall_be_kept_is_left_alone(deleted: list[tuple[Any, ...]]) -> None:
    ended = trigger()
    ended._fired_event = True
    asyncio.run(ended.on_kill())
    asyncio.run(trigger(on_kill_action="keep_pod").on_kill())
    assert deleted == []


@pytest.mark.parametrize(
    ("is_new", "safe", "deletes"),
    [(True, True, False), (False, True, True), (False, False, False), (False, None, False)],
)
def test_before_airflow_3_3_the_end_of_the_trigger_tells_that_the_task_was_marked(
    deleted: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, is_new: bool, safe: bool | None, deletes: bool
) -> None:
    async def safe_to_cancel(_: Any) -> bool:
        if safe is None:
            raise RuntimeError("the state is not known")
        return safe

    monkeypatch.setattr(gang, "AIRFLOW_V_3_3_PLUS", is_new)
    monkeypatch.setattr(MetaflowGangTrigger, "safe_to_cancel", safe_to_cancel)
    asyncio.run(trigger().cleanup())
    assert bool(deleted) == deletes
