"""Triggers: wait for runs and artifacts of Metaflow without holding a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import cast

from airflow.providers.standard.triggers.external_task import DagStateTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_metaflow.formats import SerializedTrigger
from airflow_provider_metaflow.hooks.metaflow import GivenAnswer, MetaflowHook
from airflow_provider_metaflow.reading.documents import NoAnswer, Question
from metaflow_orchestration.exceptions import MetaflowQueryError

log = logging.getLogger(__name__)

_PATIENCE = 5
"""How many answers in a row may fail before the waiting ends."""


class MetaflowTrigger(BaseTrigger):
    """Ask a question time and again until its answer settles; shared by the operator and both sensors.

    :param metaflow_conn_id: connection of :class:`MetaflowHook`.
    :param question: a question of ``reading/documents.py``.
    :param poll_interval: seconds between two questions.
    :param delay: seconds before the first.
    :param terminate: on a kill by the user, end the run that the question is about.
    """

    def __init__(
        self,
        metaflow_conn_id: str,
        question: Question,
        poll_interval: float = 30.0,
        delay: float = 0.0,
        terminate: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.metaflow_conn_id, self.question = metaflow_conn_id, question
        self.poll_interval, self.delay, self.terminate = poll_interval, delay, terminate

    def serialize(self) -> SerializedTrigger:
        """Return class path and arguments, as plain JSON types."""
        return "airflow_provider_metaflow.triggers.metaflow.MetaflowTrigger", {
            "metaflow_conn_id": self.metaflow_conn_id,
            "question": self.question,
            "poll_interval": self.poll_interval,
            "delay": self.delay,
            "terminate": self.terminate,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the answer, or ``{"error": …}`` when there is no answer."""
        hook = MetaflowHook(self.metaflow_conn_id)
        await asyncio.sleep(self.delay)
        failures = 0
        while True:
            try:
                answer = await hook.aask(**self.question)
            except MetaflowQueryError as error:
                failures += 1
                if not error.transient or failures >= _PATIENCE:
                    failure: NoAnswer = {"error": str(error)}
                    yield _event(failure)
                    return
                log.warning("Metaflow gave no answer, asking again: %s", error)
            else:
                failures = 0
                if is_settled(self.question, answer):
                    yield _event(answer)
                    return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """End the run when a user kills the task that waits for it."""
        if self.terminate:
            await MetaflowHook(self.metaflow_conn_id).aask(**cast("Question", {**self.question, "op": "terminate"}))


class MetaflowDagRunTrigger(DagStateTrigger):
    """Wait for a run on this Airflow, and end it when a user kills the task that waits for it.

    :param arguments: those of Airflow's ``DagStateTrigger``.
    """

    def serialize(self) -> SerializedTrigger:
        """Return class path and arguments."""
        _, arguments = super().serialize()
        return "airflow_provider_metaflow.triggers.metaflow.MetaflowDagRunTrigger", arguments

    async def on_kill(self) -> None:
        """End the run."""
        from airflow_provider_metaflow.hooks.cancel import cancel_dag_run

        for run_id in self.run_ids or ():
            await asyncio.to_thread(cancel_dag_run, self.dag_id, run_id)


def _event(payload: Mapping[str, object]) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


def is_settled(question: Question, answer: GivenAnswer) -> bool:
    """Return whether an answer is one to go on with.

    :param question: the question.
    :param answer: its answer.
    """
    return bool(answer.get("exists") if question["op"] == "artifact" else answer.get("finished"))
