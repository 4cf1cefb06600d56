"""Passes the output of Metaflow tasks on to the log of their task instance."""

from __future__ import annotations

from collections import deque
from typing import Any

from airflow_provider_metaflow.compute.error_text import ErrorText

_TAIL = 20
"""How many lines of the standard error are shown again of a task that has written no exception."""


class StepLog:
    """The log of one task instance.

    Errors are logged as such while they are written, so that Airflow's filter by level finds them; other lines of the
    standard error, e.g. progress bars, are no errors.

    :param log: logger of the operator.
    """

    def __init__(self, log: Any) -> None:
        self._log, self._errors = log, ErrorText()
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._has_error = False

    def write(self, stream: str, text: str) -> None:
        """Log a line.

        :param stream: ``stdout`` or ``stderr``.
        :param text: the line.
        """
        if self._errors.feed(stream, text):
            self._has_error = True
            self._log.error("%s", text)
            return
        if stream == "stderr":
            self._tail.append(text)
        self._log.info("%s", text)

    def end(self, *, failed: bool) -> None:
        """Note that a task has ended; the next one may follow.

        :param failed: whether it failed. Without an exception, the end of its standard error is shown as an error.
        """
        if failed and not self._has_error:
            for text in self._tail:
                self._log.error("%s", text)
        self._errors, self._has_error = ErrorText(), False
        self._tail.clear()
