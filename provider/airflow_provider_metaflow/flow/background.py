"""Compiles flows in a process of its own, which outlives the parse of a DAG file that needs them.

Airflow kills a parse that takes longer than ``[core] dagbag_import_timeout``. What this process has compiled by then is
in the cache, and it goes on. One such process works at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from airflow_provider_metaflow.cache import MANIFESTS, Cache, is_locked
from airflow_provider_metaflow.documents import built
from airflow_provider_metaflow.exceptions import FlowCompileError, MetaflowProviderError

from .compiler import CompileOptions, Entry, load_manifest

_MOST_AT_A_TIME = 4
_POLL_SECONDS = 0.1


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    options: CompileOptions


@built
class _Requests(msgspec.Struct, frozen=True, kw_only=True):
    cache: str
    limit_bytes: int
    flows: list[_Request]


def compile_for(entries: Sequence[Entry], cache: Cache, seconds: float | None) -> None:
    """Have flows compiled, and wait for them.

    :param entries: the flows.
    :param cache: the cache.
    :param seconds: how long to wait; what is left then is still being compiled. None: until all have been tried.
    """
    end = None if seconds is None else time.monotonic() + seconds
    waiting = [entry for entry in entries if not has_ended(entry)]
    if not waiting:
        return
    process = _start(waiting, cache)
    while waiting and (end is None or time.monotonic() < end):
        # Another such process may be at work for another DAG file.
        if process.poll() is not None and end is None:
            return
        time.sleep(_POLL_SECONDS)
        waiting = [entry for entry in waiting if not has_ended(entry)]


def has_ended(entry: Entry) -> bool:
    """Return whether a flow was compiled, or failed to a short time ago.

    :param entry: the flow.
    """
    if entry.target.exists() and entry.manifest() is not None:
        return True
    return failure_of(entry) is not None


def failure_of(entry: Entry) -> FlowCompileError | None:
    """Return why a flow did not compile a short time ago; None if it did, was not tried, or is being compiled.

    :param entry: the flow.
    """
    if not entry.attempt.file.exists() or is_locked(entry.target):
        return None
    try:
        entry.attempt.check()
    except FlowCompileError as error:
        return error
    return None


def _start(entries: Sequence[Entry], cache: Cache) -> subprocess.Popen[bytes]:
    flows = [_Request(path=str(entry.path.absolute()), options=entry.options) for entry in entries]
    requests = _Requests(cache=str(cache.root.absolute()), limit_bytes=cache.limit_bytes, flows=flows)
    # Options may hold secrets, which no process list must show.
    descriptor, name = tempfile.mkstemp(prefix=".requests-", dir=cache.folder(MANIFESTS))
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(requests))
    # Nothing of the parse's own: Airflow waits for whoever holds its sockets.
    return subprocess.Popen(
        [sys.executable, "-m", __name__, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def main(name: str) -> int:
    """Compile what a file of requests names, unless another process does so already.

    :param name: the file, which is removed.
    """
    file = Path(name)
    requests = msgspec.json.decode(file.read_bytes(), type=_Requests)
    file.unlink()
    cache = Cache(Path(requests.cache), requests.limit_bytes)
    with (cache.folder(MANIFESTS) / "background.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        with ThreadPoolExecutor(min(_MOST_AT_A_TIME, os.cpu_count() or 1)) as pool:
            for flow in requests.flows:
                pool.submit(_compile, flow, cache)
    return 0


def _compile(flow: _Request, cache: Cache) -> None:
    # The parse that needs it finds the error in the cache, too.
    with contextlib.suppress(MetaflowProviderError):
        load_manifest(Path(flow.path), flow.options, cache, remember_failures=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
