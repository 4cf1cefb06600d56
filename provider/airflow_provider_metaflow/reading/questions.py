"""Answers questions about Metaflow's runs from documents that are plain JSON.

A *question* is a JSON object ``{"op": NAME, …}``, and so is its answer. The facts come from an :class:`Index` (what is
registered with the metadata provider) and a :class:`Store` (what tasks have written beside their artifacts, see
``task_summary.py`` of the Metaflow extension). Standard library only: the process of ``process.py`` loads this file,
too, and its interpreter need not have this package.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from typing import TYPE_CHECKING, cast

from .facts import RunFacts, card_folder
from .index import CannotAnswerError, CardsOfRun, Index, NotFoundError, OnceAsked, Store, TooLargeError
from .overview import Overview

if TYPE_CHECKING:
    from .documents import (
        Answer,
        ArtifactAnswer,
        ArtifactQuestion,
        CardAnswer,
        CardQuestion,
        Missing,
        OverviewAnswer,
        OverviewQuestion,
        Question,
        RunAnswer,
        RunQuestion,
    )


class Reader:
    """Answers questions.

    :param index: what is registered.
    :param store: what tasks have written.
    :param pool: asks for what lies apart at the same time, where each request takes a while; default: one by one.
    """

    def __init__(self, index: Index, store: Store, pool: Executor | None = None) -> None:
        self._index, self._store, self._facts = index, store, RunFacts(index, store)
        self._each = map if pool is None else pool.map

    def prepare(self) -> None:
        """Ask for something that does not exist, so that connections are open when a question comes."""
        self._store.document(["_"], 1)
        self._store.names(["_"])
        self._index.run("_", "0")

    def answer(self, question: Question) -> Answer:
        """Return the answer to a question; ``error`` holds one sentence if there is none.

        :param question: ``op`` is one of ``run``, ``artifact``, ``overview``, ``card``; see the methods below.
        """
        try:
            return self._answer(question)
        except NotFoundError as error:
            return {"exists": False, "message": str(error)}
        except CannotAnswerError as error:
            return {"error": str(error), "transient": False, "plain": True}
        except OSError as error:
            return {"error": f"{type(error).__name__}: {error.strerror or error}", "transient": True}

    def _answer(self, question: Question) -> Answer:
        operation = question["op"]
        if operation == "run":
            return self._run(cast("RunQuestion", question))
        if operation == "artifact":
            return self._artifact(cast("ArtifactQuestion", question))
        if operation == "overview":
            return self._overview(cast("OverviewQuestion", question))
        if operation == "card":
            return self._card(cast("CardQuestion", question))
        raise KeyError(operation)

    def _run(self, question: RunQuestion) -> RunAnswer:
        """Return whether a run has finished. ``pathspec``: ``Flow/run``."""
        flow, run = self._facts.parts(question, 2)
        end = self._facts.end_task(flow, run)
        is_done = end is not None and self._facts.facts(flow, run, *end).is_successful
        return {"exists": True, "finished": is_done, "successful": is_done}

    def _artifact(self, question: ArtifactQuestion) -> ArtifactAnswer | Missing:
        """Read the artifact ``name`` if it has at most ``max_bytes``.

        ``pathspec`` names a run (then its end task counts), a step (its only task) or a task.
        With ``"value": false`` return only whether it is there.
        """
        name, limit = str(question["name"]), question["max_bytes"]
        missing: Missing = {"exists": False, "message": f"{question['pathspec']} has no artifact {name}"}
        path = self._facts.task(question)
        if path is None:
            return missing
        facts = self._facts.facts(*path)
        pathspec = "/".join(path)
        if not facts.is_successful:
            return missing
        summary = self._facts.summary(path, facts.attempt)
        artifacts = summary["artifacts"] if summary else self._facts.names(path, facts.attempt)
        found = artifacts.get(name)
        if found is None:
            return missing
        if not question.get("value", True):
            return {"exists": True, "task": pathspec}
        stored = found.get("size")
        if isinstance(stored, int) and stored > limit:
            raise CannotAnswerError(f"artifact {name} of {pathspec} is {stored} bytes large; the limit is {limit}")
        if "value" not in found:
            raise CannotAnswerError(f"artifact {name} of {pathspec} {_why_no_value(summary is not None)}")
        size = len(json.dumps(found["value"]))
        if size > limit:
            raise CannotAnswerError(
                f"artifact {name} of {pathspec} is {size} bytes large as JSON; the limit is {limit}"
            )
        return {"exists": True, "value": found["value"], "task": pathspec}

    def _overview(self, question: OverviewQuestion) -> OverviewAnswer:
        """Describe the run ``pathspec``, or only its ``step``: parameters, and per task artifacts and cards."""
        index = OnceAsked(self._index)
        flow, run = RunFacts(index, self._store).parts(question, 2)
        return Overview(RunFacts(index, CardsOfRun(self._store, flow, run)), self._each).of(flow, run, question)

    def _card(self, question: CardQuestion) -> CardAnswer:
        """Return the HTML of a card. ``pathspec`` of a task, ``hash``, ``max_bytes``."""
        path = self._facts.parts(question, 4)
        limit = question["max_bytes"]
        for _, mark, name in self._facts.cards(path):
            if mark == question["hash"]:
                try:
                    html = self._store.text([*card_folder(path), name], limit)
                except TooLargeError as error:
                    raise CannotAnswerError(f"the card is {error.size} bytes large; the limit is {limit}") from None
                if html is not None:
                    return {"exists": True, "html": html}
        raise NotFoundError("there is no such card")


def _why_no_value(has_summary: bool) -> str:
    if has_summary:
        return "cannot be expressed in JSON, or is larger than what a task writes down (48 KiB a value, 64 KiB in all)"
    return (
        "was not written down as JSON by its task, and pickled artifacts are not loaded here; run the flow with this "
        "version of airflow-provider-metaflow, or with `--with orchestrator_internal`"
    )
