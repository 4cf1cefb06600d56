"""What a deployment has changed so far, to be taken back if AWS refuses a part of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metaflow_adapters.step_functions.aws.client import AwsError, aws_call

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Changes:
    """What a deployment has changed so far, and how to take it back."""

    _undo: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)

    def add(self, what: str, undo: Callable[[], Any]) -> None:
        """Remember a change.

        :param what: what is done to take it back, for a message.
        :param undo: takes it back.
        """
        self._undo.append((what, undo))

    def take_back(self) -> None:
        """Take all of it back, the last change first; what cannot be is logged."""
        while self._undo:
            what, undo = self._undo.pop()
            try:
                with aws_call(what):
                    undo()
            except AwsError as problem:
                _LOG.warning("%s", problem)
