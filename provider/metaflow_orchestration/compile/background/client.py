"""Compiles flows in a process of its own, which outlives the parse of a DAG file that needs them.

Airflow kills a parse that takes longer than ``[core] dagbag_import_timeout``. What this process has compiled by then is
in the cache, and it compiles the rest. Only one such process runs at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO

import msgspec

from metaflow_orchestration.cache import MANIFESTS, Cache, is_locked
from metaflow_orchestration.compile.cache.entry import Entry
from metaflow_orchestration.compile.options import CompileOptions
from metaflow_orchestration.compile.processes.supervised import text_of
from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import CompileServerError, FlowCompileError

_SERVER = "metaflow_orchestration.compile.background.server"
_POLL_SECONDS = 0.1


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A flow to compile.

    :param path: the flow file.
    :param options: how to compile it.
    """

    path: str
    options: CompileOptions


@built
class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """What a background process is to do.

    :param cache: folder of the cache.
    :param limit_bytes: how much it may hold.
    :param flows: the flows.
    :param asked_by: the process for which it works, as long as that is there: the DAG processor of a parse.
    """

    cache: str
    limit_bytes: int
    flows: list[Request]
    asked_by: int


def compile_for(entries: Sequence[Entry], cache: Cache, seconds: float | None) -> list[Entry]:
    """Have flows compiled, and wait for them; return those that are left.

    :param entries: the flows.
    :param cache: the cache.
    :param seconds: how long to wait; what is left then is still being compiled. None: until all have been tried.
    :raises CompileServerError: if the process that compiles ended before its time.
    """
    end = None if seconds is None else time.monotonic() + seconds
    waiting = [entry for entry in entries if not has_ended(entry)]
    if not waiting:
        return []
    # A parse is a child of the DAG processor, which outlives it; who waits to the end asks for itself.
    with tempfile.TemporaryFile() as errors:
        process = _start(waiting, cache, os.getpid() if seconds is None else os.getppid(), errors)
        # Nobody waits at each parse for a flow that hangs.
        hanging = [entry for entry in waiting if seconds is not None and entry.attempt.running_seconds() >= seconds]
        waiting = [entry for entry in waiting if entry not in hanging]
        while waiting and (end is None or time.monotonic() < end):
            status = process.poll()
            if status:
                raise CompileServerError(_why(status, text_of(errors)))
            # Another such process may be at work for another DAG file.
            if status == 0 and end is None:
                break
            time.sleep(_POLL_SECONDS)
            waiting = [entry for entry in waiting if not has_ended(entry)]
        return [*waiting, *hanging]


def has_ended(entry: Entry) -> bool:
    """Return whether a flow was compiled, or failed to a short time ago.

    :param entry: the flow.
    """
    return entry.manifest() is not None or failure_of(entry) is not None


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


def _why(status: int, errors: str) -> str:
    last = (errors.strip().splitlines() or ["it wrote nothing."])[-1]
    return f"the process that compiles flows in the background ended with status {status}: {last}"


def _start(entries: Sequence[Entry], cache: Cache, asked_by: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    flows = [Request(path=str(entry.path.absolute()), options=entry.options) for entry in entries]
    requests = Requests(cache=str(cache.root.absolute()), limit_bytes=cache.limit_bytes, flows=flows, asked_by=asked_by)
    # Options may hold secrets, which no process list must show.
    descriptor, name = tempfile.mkstemp(prefix=".requests-", dir=cache.folder(MANIFESTS))
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(requests))
    # Nothing of the parse's own: Airflow waits for whoever holds its sockets.
    return subprocess.Popen(
        [sys.executable, "-m", _SERVER, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
        cwd="/",
    )
