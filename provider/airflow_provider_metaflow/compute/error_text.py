"""Finds in the output of a task what it has failed with."""

from __future__ import annotations

import re

_TRACEBACK = re.compile(r"( *)Traceback \(most recent call last\):")
_FAILED = re.compile(r"<flow .*> failed:")
"""What Metaflow writes before the traceback of a step (``metaflow.task.MetaflowTask.run_step``)."""

_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_MAX_LENGTH = 500


class ErrorText:
    """Reads the lines of a task, one after the other.

    :ivar message: the last exception, e.g. ``ValueError: asked to crash``; None if none was written.
    """

    def __init__(self) -> None:
        self.message: str | None = None
        self._indent: int | None = None
        self._has_failed = False

    def feed(self, stream: str, text: str) -> bool:
        """Read a line, and return whether it is a part of an error.

        :param stream: ``stdout`` or ``stderr``.
        :param text: the line.
        """
        if stream != "stderr":
            return False
        begin = _TRACEBACK.match(text)
        if begin:
            self._indent = len(begin[1])
            return True
        line = text.strip()
        if self._indent is not None:
            if line and len(text) - len(text.lstrip()) <= self._indent:
                # The first line that is not indented below the traceback is the exception.
                self._indent = None
                self.message = line[:_MAX_LENGTH]
            return True
        if _FAILED.match(text):
            self._has_failed, self.message = True, None
        elif self._has_failed and line and self.message is None and not line.endswith((":", "Internal error")):
            # An exception of Metaflow is written without a traceback.
            self.message = line[:_MAX_LENGTH]
        return self._has_failed or line.startswith(_CHAINED)
