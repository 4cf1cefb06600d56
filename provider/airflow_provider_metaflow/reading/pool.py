"""Long-lived processes that answer questions about Metaflow's runs (``process.py``), shared by all who ask.

One process per environment, since Metaflow reads its settings when it is imported. A process is started when it is
first needed and ends when it has had nothing to do for a while, except for one that whoever asks wants to be kept: the
API server's, where somebody would wait for the start of another one.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import itertools
import json
import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import TYPE_CHECKING

from metaflow_orchestration.compile.processes.environment import temporary_folders
from metaflow_orchestration.exceptions import MetaflowQueryError

if TYPE_CHECKING:
    from .documents import Answer, Question

log = logging.getLogger(__name__)

MAX_PROCESSES = 4
IDLE_SECONDS = 300.0
_SCRIPT = Path(__file__).with_name("process.py")
_LAST_LINES = 20


class GoneError(Exception):
    """The process has ended without an answer."""


class ReaderProcess:
    """One process, and the questions that it has not answered yet.

    :param python: interpreter.
    :param environment: its environment.
    :param idle_seconds: after how long without a question it ends; 0: never, while this process lives.
    """

    def __init__(self, python: str, environment: Mapping[str, str], idle_seconds: float = IDLE_SECONDS) -> None:
        self._process = subprocess.Popen(
            [python, str(_SCRIPT), "--idle", str(idle_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**temporary_folders(environment), **environment},
            bufsize=0,
            start_new_session=True,
        )
        self._ids = itertools.count()
        self._pending: dict[int, Future[Answer]] = {}
        self._lock = threading.Lock()
        self._is_gone = False
        self._questions: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._complaints: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self.last_used = self._last_answer = time.monotonic()
        for target in (self._write, self._read, self._listen):
            threading.Thread(target=target, name="metaflow-reader", daemon=True).start()

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._is_gone

    @property
    def is_busy(self) -> bool:
        """Whether there are questions that it has not answered."""
        return bool(self._pending)

    def submit(self, question: Question) -> Future[Answer]:
        """Ask a question, without waiting.

        :param question: see ``questions.py``.
        :raises GoneError: if the process has ended.
        """
        future: Future[Answer] = Future()
        with self._lock:
            if self._is_gone:
                raise GoneError
            self.last_used = time.monotonic()
            number = next(self._ids)
            self._pending[number] = future
            # A full pipe must not stop whoever asks, e.g. the event loop of a triggerer.
            self._questions.put(json.dumps({"id": number, "question": dict(question)}).encode() + b"\n")
        return future

    def give_up(self, future: Future[Answer], seconds: float) -> None:
        """Forget a question; end the process if it has answered nothing else for as long.

        :param future: what :meth:`submit` returned.
        :param seconds: for how long its answer was waited for.
        """
        with self._lock:
            for number in [number for number, one in self._pending.items() if one is future]:
                del self._pending[number]
            stuck = time.monotonic() - self._last_answer >= seconds
        if stuck:
            self.close()

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._is_gone = True
        self._questions.put(None)
        self._process.kill()
        self._process.wait()

    def release(self) -> None:
        """Let go of a process of the parent, in a forked child."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    os.close(stream.fileno())

    def last_words(self) -> str:
        """Return what it has written last to its standard error; for the log, not for users."""
        return "\n".join(self._complaints)

    def _write(self) -> None:
        stream = self._process.stdin
        with contextlib.suppress(OSError, ValueError):
            while stream is not None and (line := self._questions.get()) is not None:
                view = memoryview(line)
                while view:
                    view = view[stream.write(view) or 0 :]
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()

    def _read(self) -> None:
        stream = self._process.stdout
        with contextlib.suppress(OSError, ValueError), open(stream.fileno(), "rb", closefd=False) as lines:  # type: ignore[union-attr]
            for line in lines:
                reply = json.loads(line)
                with self._lock:
                    self._last_answer = time.monotonic()
                    future = self._pending.pop(reply["id"], None)
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_result(reply["answer"])
        with self._lock:
            self._is_gone = True
            pending, self._pending = self._pending, {}
        self._questions.put(None)
        for future in pending.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(GoneError())
        self._process.wait()

    def _listen(self) -> None:
        stream = self._process.stderr
        with contextlib.suppress(OSError, ValueError), open(stream.fileno(), "rb", closefd=False) as lines:  # type: ignore[union-attr]
            for line in lines:
                self._complaints.append(line[:2000].decode("utf-8", "replace").rstrip())


class ReaderPool:
    """The processes of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: dict[str, ReaderProcess] = {}
        self._staying: ReaderProcess | None = None

    def ask(
        self,
        python: str,
        environment: Mapping[str, str],
        question: Question,
        seconds: float,
        *,
        stays: bool = False,
    ) -> Answer:
        """Return the answer to a question that may be asked twice.

        :param python: interpreter of the process.
        :param environment: its environment.
        :param question: see ``questions.py``.
        :param seconds: how long to wait.
        :param stays: whether the process is kept when it has nothing to do. It takes the place of one with another
            environment: there is at most one.
        :raises MetaflowQueryError: if there is none.
        """
        for is_last in (False, True):
            process = self._process(python, environment, stays=stays)
            try:
                future = process.submit(question)
            except GoneError:
                continue
            try:
                return future.result(seconds)
            except (FutureTimeoutError, TimeoutError):
                process.give_up(future, seconds)
                raise _late(seconds) from None
            except GoneError:
                if is_last:
                    raise _dead(process) from None
        raise _dead(process)

    async def aask(self, python: str, environment: Mapping[str, str], question: Question, seconds: float) -> Answer:
        """Do the same in an event loop.

        :param python: interpreter of the process.
        :param environment: its environment.
        :param question: see ``questions.py``.
        :param seconds: how long to wait.
        :raises MetaflowQueryError: if there is none.
        """
        for is_last in (False, True):
            process = await asyncio.to_thread(self._process, python, environment)
            try:
                future = process.submit(question)
            except GoneError:
                continue
            try:
                return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
            except asyncio.TimeoutError:
                process.give_up(future, seconds)
                raise _late(seconds) from None
            except GoneError:
                if is_last:
                    raise _dead(process) from None
        raise _dead(process)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            processes, self._processes = list(self._processes.values()), {}
        for one in processes:
            one.close()

    def release(self) -> None:
        """Let go of the processes of the parent, in a forked child, where locks may be held for ever."""
        for one in self._processes.values():
            one.release()
        self.__init__()  # type: ignore[misc]

    def _process(self, python: str, environment: Mapping[str, str], *, stays: bool = False) -> ReaderProcess:
        identity = json.dumps([python, sorted(environment.items())])
        key = hashlib.sha256(identity.encode()).hexdigest()
        with self._lock:
            found = self._processes.get(key)
            if found is not None and not found.is_gone:
                return found
            if stays and self._staying is not None and not self._staying.is_busy:
                self._staying.close()
            self._make_way()
            try:
                made = self._processes[key] = ReaderProcess(python, environment, 0 if stays else IDLE_SECONDS)
            except OSError as error:
                raise MetaflowQueryError(f"the interpreter {python} cannot be started ({error.strerror}).") from None
            if stays:
                self._staying = made
            return made

    def _make_way(self) -> None:
        for key in [key for key, one in self._processes.items() if one.is_gone]:
            del self._processes[key]
        while len(self._processes) >= MAX_PROCESSES:
            idle = [(one.last_used, key) for key, one in self._processes.items() if not one.is_busy]
            if not idle:
                raise MetaflowQueryError(
                    f"{MAX_PROCESSES} processes with other settings are reading from Metaflow.", transient=True
                )
            self._processes.pop(min(idle)[1]).close()


def _late(seconds: float) -> MetaflowQueryError:
    return MetaflowQueryError(f"Metaflow has not answered within {seconds:.0f} s.", transient=True)


def _dead(process: ReaderProcess) -> MetaflowQueryError:
    log.warning("The process that reads from Metaflow has ended without an answer: %s", process.last_words())
    return MetaflowQueryError(
        "the process that reads from Metaflow has ended without an answer; Airflow's log says why.", transient=True
    )


POOL = ReaderPool()
"""The one of this process."""

os.register_at_fork(after_in_child=POOL.release)
