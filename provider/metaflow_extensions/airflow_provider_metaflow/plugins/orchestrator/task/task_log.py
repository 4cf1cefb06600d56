"""What a task writes: whole to Metaflow's log, and line by line to whoever watches it."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any

MAX_LIVE_BYTES = 64 * 1024
"""Longer lines are shown in parts, for each part goes through memory and Airflow's log as one document."""

BAR_SECONDS = 3.0
"""How often the state of a progress bar is shown that ends its states with carriage returns."""

SMALL_LOG_BYTES = 1024 * 1024
"""Logs up to this size are saved from memory, as ``metaflow.mflog.save_logs`` does."""


class LiveLines:
    """Turns the bytes of one stream into lines to show, in linear time and little memory.

    Of what carriage returns overwrite, only the state that stands there when it is shown is shown, as on a terminal.

    :param emit: takes each line, without its end.
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._rest = bytearray()
        self._state = b""
        self._is_bar = self._is_cut = False
        self._shown = b""
        self._shown_at = 0.0

    def feed(self, data: bytes) -> None:
        """Take bytes as they were read.

        :param data: the bytes.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._take(line)
            self._end_line()
        self._take(rest)

    def show_if_due(self) -> None:
        """Show the state of a progress bar, if the last one was shown some seconds ago."""
        if self._is_bar and time.monotonic() - self._shown_at > BAR_SECONDS:
            state = self._current()
            if state not in (b"", self._shown):
                self._emit(_text(state))
                self._shown, self._shown_at = state, time.monotonic()

    def finish(self) -> None:
        """Take a last line that has no end."""
        if self._rest or self._is_bar:
            self._end_line()

    def _take(self, data: bytes) -> None:
        *states, rest = data.split(b"\r")
        for state in states:
            self._add(state)
            self._is_bar = True
            if self._rest.strip():
                self._state = bytes(self._rest)
            self._rest.clear()
        self._add(rest)

    def _add(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) > MAX_LIVE_BYTES:
            end = MAX_LIVE_BYTES
            # Not within a character: its bytes after the first are 10xxxxxx, and at most three.
            while end > MAX_LIVE_BYTES - 4 and self._rest[end] & 0xC0 == 0x80:
                end -= 1
            self._emit(_text(self._rest[:end]))
            del self._rest[:end]
            self._is_cut = True

    def _end_line(self) -> None:
        text = self._current()
        was_shown = text == self._shown if self._shown else self._is_cut and not text
        if not was_shown:
            self._emit(_text(text))
        self._rest.clear()
        self._state = self._shown = b""
        self._is_bar = self._is_cut = False

    def _current(self) -> bytes:
        """Return what the line shows: its end, or what stands before a carriage return that nothing follows."""
        return bytes(self._rest) if self._rest.strip() or not self._is_bar else self._state


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")


class TaskLog:
    """Keeps the two streams of a task in Metaflow's structured form, and saves them to the datastore.

    :param report: takes a sentence about a log that could not be saved.
    :param task_datastore: datastore of the task.
    """

    def __init__(self, report: Callable[[str], None], task_datastore: Any) -> None:
        from metaflow.mflog import TASK_LOG_SOURCE, update_delay
        from metaflow.mflog.mflog import decorate

        self._decorate, self._source, self._delay = decorate, TASK_LOG_SOURCE, update_delay
        self._report = report
        self._datastore = task_datastore
        self._files = {name: tempfile.TemporaryFile() for name in ("stdout", "stderr")}  # noqa: SIM115
        self._within_line = dict.fromkeys(self._files, False)
        self._started = self._saved = time.monotonic()
        self._dirty = True

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes as they were read from the task.

        :param stream: ``stdout`` or ``stderr``.
        :param data: the bytes.
        """
        self._dirty = True
        *lines, rest = data.split(b"\n")
        write = self._files[stream].write
        for line in lines:
            write(line + b"\n" if self._within_line[stream] else self._decorate(self._source, line + b"\n"))
            self._within_line[stream] = False
        if rest:
            # A long line goes to the file as it comes.
            write(rest if self._within_line[stream] else self._decorate(self._source, rest))
            self._within_line[stream] = True

    def save_if_due(self) -> None:
        """Save at the pace of Metaflow's own log sidecar, so that a running task's log can be followed."""
        now = time.monotonic()
        # Less often than the sidecar at first: each save rewrites the whole file.
        if self._dirty and now - self._saved > max(5.0, self._delay(now - self._started)):
            self.save()

    def finish(self) -> None:
        """End unfinished last lines and save."""
        for stream in self._files:
            if self._within_line[stream]:
                self.feed(stream, b"\n")
        self.save()

    def save(self) -> None:
        """Write both logs to the datastore; a failure to do so is reported, but fails no task."""
        self._saved, self._dirty = time.monotonic(), False
        try:
            self._datastore.save_logs(self._source, {name: self._content(name) for name in self._files})
        except Exception as error:  # the task's own result counts, whatever happens to its log
            self._report("Metaflow log could not be saved: %s" % error)

    def _content(self, name: str) -> Any:
        file = self._files[name]
        file.flush()
        if file.tell() <= SMALL_LOG_BYTES:
            return os.pread(file.fileno(), file.tell(), 0)
        from pathlib import Path

        return Path("/proc/self/fd/%d" % file.fileno()) if sys.platform == "linux" else _read_all(file)


def _read_all(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), file.tell(), 0)


def text_stream(descriptor: int) -> io.TextIOWrapper:
    """Return what a task writes text to.

    :param descriptor: of the pipe or file; it stays open.
    """
    raw = open(descriptor, "wb", buffering=io.DEFAULT_BUFFER_SIZE, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
