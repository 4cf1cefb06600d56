"""Keeps the page from taking more of the API server than its share."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """There are as many readers as there may be."""


class ReadingLimit:
    """How many requests may read at a time, and how many may wait for that.

    A request that waits holds one of the threads that Airflow answers its own requests with.

    :param running: how many may read.
    :param waiting: how many more may wait.
    :param patience: for how many seconds.
    """

    def __init__(self, *, running: int, waiting: int, patience: float) -> None:
        self._running = threading.BoundedSemaphore(running)
        self._admitted = threading.BoundedSemaphore(running + waiting)
        self._patience = patience

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Read while this is entered.

        :raises BusyError: if there is no room.
        """
        if not self._admitted.acquire(blocking=False):
            raise BusyError
        try:
            if not self._running.acquire(timeout=self._patience):
                raise BusyError
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._admitted.release()


class ShortCache(Generic[T]):
    """Remembers answers for some seconds, so that those who look at the same run read it once.

    :param seconds: for how long.
    :param size: how many.
    """

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds, self._size = seconds, size
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is remembered for a key, or make it; errors are not remembered.

        :param key: what the answer depends on.
        :param make: makes it.
        """
        with self._lock:
            found = self._found.get(key)
        if found is not None and time.monotonic() - found[0] < self._seconds:
            return found[1]
        value = make()
        with self._lock:
            self._found.pop(key, None)
            self._found[key] = time.monotonic(), value
            while len(self._found) > self._size:
                self._found.popitem(last=False)
        return value
