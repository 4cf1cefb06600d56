"""What the reader of questions asks: what is registered of runs (:class:`Index`), and what tasks have written.

Standard library only: the process of ``process.py`` loads this file, too, and its interpreter need not have this
package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol


class CannotAnswerError(Exception):
    """The question has no answer; the message says why."""


class NotFoundError(Exception):
    """What the question is about does not exist; the message names it."""


class TooLargeError(Exception):
    """A document is larger than the limit; ``size`` has its size in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class Metadatum(NamedTuple):
    """One piece of metadata of a task.

    :param field: its name.
    :param value: its value.
    :param attempt: the attempt that registered it, if known.
    """

    field: str
    value: str
    attempt: int | None


def metadatum(one: Mapping[str, Any]) -> Metadatum:
    """Return a piece of metadata as Metaflow's providers have it.

    :param one: its JSON object.
    """
    tags = [str(tag).partition(":") for tag in one.get("tags") or ()]
    numbers = [int(value) for name, _, value in tags if name == "attempt_id" and value.isdecimal()]
    return Metadatum(str(one.get("field_name")), str(one.get("value")), numbers[0] if numbers else None)


class Index(Protocol):
    """What is registered with the metadata provider."""

    def run(self, flow: str, run: str) -> Mapping[str, Any] | None:
        """Return ``tags`` and ``system_tags`` of a run, None if there is none."""

    def steps(self, flow: str, run: str) -> Sequence[str]:
        """Return the steps of a run that have started, the first to start first."""

    def tasks(self, flow: str, run: str, step: str) -> Sequence[str]:
        """Return the tasks of a step, the first to start first."""

    def metadata(self, flow: str, run: str, step: str, task: str) -> Sequence[Metadatum]:
        """Return the metadata of a task about its attempts and the graph."""


class Store(Protocol):
    """What tasks have written."""

    def document(self, path: Sequence[str], limit: int) -> Any:
        """Return the JSON document at a path below the root; None if there is none."""

    def names(self, path: Sequence[str]) -> Sequence[str]:
        """Return the names of the files in a folder below the root."""

    def text(self, path: Sequence[str], limit: int) -> str | None:
        """Return the text at a path below the root; None if there is none."""


class Facts(NamedTuple):
    """How a task stands: its last attempt that is over, whether that succeeded, and whether another has started."""

    attempt: int | None
    is_ok: bool
    is_running: bool

    @property
    def is_successful(self) -> bool:
        """Whether the task is over and has succeeded."""
        return self.attempt is not None and self.is_ok and not self.is_running


class OnceAsked:
    """An ``Index`` that asks another one each thing once, for the time of one question.

    :param index: the other one.
    """

    def __init__(self, index: Index) -> None:
        self.run, self.steps = lru_cache(None)(index.run), lru_cache(None)(index.steps)
        self.tasks, self.metadata = lru_cache(None)(index.tasks), lru_cache(None)(index.metadata)


class CardsOfRun:
    """A ``Store`` that knows the cards of a run from one listing, where the other one has ``below``.

    :param store: the other one.
    :param flow: the flow.
    :param run: the run.
    """

    def __init__(self, store: Store, flow: str, run: str) -> None:
        self.document, self.text, self._store = store.document, store.text, store
        self._folder = ["mf.cards", flow, "runs", run]
        below = getattr(store, "below", None)
        self._paths: list[str] | None = below(self._folder) if below else None

    def names(self, path: Sequence[str]) -> Sequence[str]:
        """Return the names of the files in a folder below the root."""
        if self._paths is None or list(path[: len(self._folder)]) != self._folder:
            return self._store.names(path)
        folder = "/".join(path[len(self._folder) :])
        return sorted(name for parent, _, name in (one.rpartition("/") for one in self._paths) if parent == folder)
