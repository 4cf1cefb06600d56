"""The program that compiles flows in the background; see :mod:`~.client`, which starts it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec

from metaflow_orchestration.cache import MANIFESTS, Cache
from metaflow_orchestration.compile.compiler import Run, load_manifest
from metaflow_orchestration.compile.processes.environment import child_environment
from metaflow_orchestration.compile.processes.supervised import run_supervised
from metaflow_orchestration.compile.processes.supervisor import tie_to_parent
from metaflow_orchestration.exceptions import MetaflowProviderError

from .client import Request, Requests
from .forked import prepare, run_forked

_MOST_AT_A_TIME = 4
_POLL_SECONDS = 0.02


def main(name: str) -> int:
    """Compile what a file of requests names, unless another process does so already.

    :param name: the file, which is removed.
    """
    file = Path(name)
    requests = msgspec.json.decode(file.read_bytes(), type=Requests)
    file.unlink()
    cache = Cache(Path(requests.cache), requests.limit_bytes)
    with (cache.folder(MANIFESTS) / "background.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        run = run_supervised
        if all(_is_own(one.options.python) and not one.options.environment for one in requests.flows):
            os.environ.update(child_environment())
            # Else each compile says what is missing.
            with contextlib.suppress(ImportError):
                prepare()
                run = run_forked
        _compile_all(requests, cache, run)
    return 0


def _is_own(python: str) -> bool:
    """Return whether an interpreter is that of this process."""
    found = shutil.which(python)
    return found is not None and os.path.abspath(found) == os.path.abspath(sys.executable)  # noqa: PTH100  (links count)


def _compile_all(requests: Requests, cache: Cache, run: Run) -> None:
    """Compile several flows at a time, each in a process of its own, for as long as who asked is there."""
    waiting, workers = list(reversed(requests.flows)), set[int]()
    most = min(_MOST_AT_A_TIME, os.cpu_count() or 1)
    while waiting or workers:
        if not _is_alive(requests.asked_by):
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
            return
        while waiting and len(workers) < most:
            flow = waiting.pop()
            worker = os.fork()
            if worker == 0:
                _compile(flow, cache, run)
            workers.add(worker)
        ended, _ = os.waitpid(-1, os.WNOHANG)
        workers.discard(ended)
        time.sleep(_POLL_SECONDS)


def _compile(flow: Request, cache: Cache, run: Run) -> None:
    status = 1
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        tie_to_parent()
        # The parse that needs it finds the error in the cache, too.
        with contextlib.suppress(MetaflowProviderError):
            load_manifest(Path(flow.path), flow.options, cache, remember_failures=True, run=run)
        status = 0
    finally:
        os._exit(status)


def _is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists() if Path("/proc/self").exists() else True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
