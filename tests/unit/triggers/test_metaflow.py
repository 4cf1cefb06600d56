"""Waiting in the triggerer: patience with answers that fail, and an end when nothing more is to be waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_metaflow.hooks import cancel
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from airflow_provider_metaflow.triggers.metaflow import MetaflowDagRunTrigger, MetaflowTrigger, is_settled
from metaflow_orchestration.exceptions import MetaflowQueryError

RUN = {"op": "run", "pathspec": "F/1"}


class Answers:
    """Answers of the hook, one after the other; an error is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.questions: list[dict[str, Any]] = []
        self._answers = list(answers)
        monkeypatch.setattr(MetaflowHook, "aask", lambda _, **question: self._aask(question))

    async def _aask(self, question: dict[str, Any]) -> Any:
        self.questions.append(question)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def events(trigger: MetaflowTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def waiting(question: dict[str, Any] = RUN, **arguments: Any) -> MetaflowTrigger:
    return MetaflowTrigger("conn", question, poll_interval=0, **arguments)


def gone(*, transient: bool) -> MetaflowQueryError:
    return MetaflowQueryError("no answer", transient=transient)


def test_an_answer_is_waited_for_until_it_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, {"finished": False}, {"finished": False}, {"finished": True, "successful": True})
    assert events(waiting()) == [{"finished": True, "successful": True}]
    assert answers.questions == [RUN] * 3


@pytest.mark.parametrize("failures", [1, 4])
def test_errors_that_may_pass_are_waited_out(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    errors = [gone(transient=True)] * failures
    Answers(monkeypatch, *errors, {"finished": False}, *errors, {"finished": True})
    assert events(waiting()) == [{"finished": True}]


def test_five_errors_in_a_row_or_one_for_good_end_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, *[gone(transient=True)] * 9)
    assert events(waiting()) == [{"error": "no answer"}]
    assert len(answers.questions) == 5
    answers = Answers(monkeypatch, gone(transient=False))
    assert events(waiting()) == [{"error": "no answer"}]
    assert len(answers.questions) == 1


@pytest.mark.parametrize(
    ("op", "answer", "settled"),
    [
        ("artifact", {"exists": True}, True),
        ("artifact", {"exists": False, "finished": True}, False),
        ("run", {"finished": True}, True),
        ("status", {"finished": False, "exists": True}, False),
        ("status", {}, False),
    ],
)
def test_what_settles_depends_on_the_question(op: str, answer: dict[str, Any], settled: bool) -> None:
    assert is_settled({"op": op}, answer) is settled


def test_a_kill_ends_the_run_only_if_the_task_has_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, {})
    asyncio.run(waiting().on_kill())
    assert answers.questions == []
    asyncio.run(waiting({"op": "status", "pathspec": "F/1"}, terminate=True).on_kill())
    assert answers.questions == [{"op": "terminate", "pathspec": "F/1"}]


def test_a_trigger_is_made_again_from_what_it_is_stored_as() -> None:
    path, arguments = MetaflowTrigger("c", RUN, poll_interval=3, delay=4, terminate=True).serialize()
    assert path == f"{MetaflowTrigger.__module__}.MetaflowTrigger"
    assert MetaflowTrigger(**arguments).serialize() == (path, arguments)
    assert arguments == {
        "metaflow_conn_id": "c", "question": RUN, "poll_interval": 3, "delay": 4, "terminate": True
    }  # fmt: skip
    trigger = MetaflowDagRunTrigger(dag_id="d", states=["success"], run_ids=["r"], poll_interval=5)  # type: ignore[list-item]
    path, arguments = trigger.serialize()
    assert path == f"{MetaflowDagRunTrigger.__module__}.MetaflowDagRunTrigger"
    assert MetaflowDagRunTrigger(**arguments).serialize() == (path, arguments)


def test_a_kill_ends_the_run_of_this_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, str]] = []
    monkeypatch.setattr(cancel, "cancel_dag_run", lambda *run: ended.append(run))
    trigger = MetaflowDagRunTrigger(dag_id="d", states=["success"], run_ids=["r", "s"], poll_interval=5)  # type: ignore[list-item]
    asyncio.run(trigger.on_kill())
    assert ended == [("d", "r"), ("d", "s")]
