"""What a deployment has changed so far, to be undone if AWS refuses a part of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metaflow_adapters.step_functions.aws.client import AwsError, aws_call

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Changes:
    """What a deployment has changed so far, and how to undo it."""

    _undo: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)

    def add(self, what: str, undo: Callable[[], Any]) -> None:
        """Remember a change.

        :param what: what is done to undo it, for a message.
        :param undo: undoes it.
        """
        self._undo.append((what, undo))

    def take_back(self) -> None:
        """Undo all of it, the last change first; what cannot be undone is logged."""
        while self._undo:
            what, undo = self._undo.pop()
            try:
                with aws_call(what):
                    undo()
            except AwsError as problem:
                _LOG.warning("%s", problem)
