"""Runs Python command lines in forked children that have imported already what they need.

A program of its own, started by `tests/support/interpreter.py` with the path of its socket. Metaflow and our packages
read their settings from the environment when they are imported; so a template is forked for each set of settings, which
imports them once, and forks the children that run command lines with these settings.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PRELOADED = (
    "asyncio", "boto3.session", "botocore.client", "click", "concurrent.futures.thread", "croniter", "hera.workflows",
    "http.server", "httpx", "msgspec", "multiprocessing", "requests",
    "rich.console", "rich.table", "s3transfer.manager", "tarfile", "tenacity", "typing_extensions", "uuid", "yaml",
    "zipfile",
)  # fmt: skip


METAFLOW = (
    "kubernetes.client", "kubernetes.config",
    "metaflow", "metaflow.client", "metaflow.lint", "metaflow.package", "metaflow.task",
    "metaflow_orchestration.documents.manifest", "metaflow_adapters.manifests",
)  # fmt: skip
"""And not `metaflow.cli`: what a flow's decorators add to its options is read when that is imported."""

_READ_AT_IMPORT = ("HOME", "KUBECONFIG")
"""Variables beside Metaflow's that modules read when they are imported; the client of Kubernetes reads the second."""

_MOST_TEMPLATES = 4

Files = list[int]
"""The connection to the client, and its three standard streams."""


def serve(path: str) -> None:
    """Serve until the standard input ends: the process that has started this one is gone."""
    # The folder of this program is not that of the programs it runs.
    sys.path.pop(0)
    _import(PRELOADED)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    templates: dict[tuple[tuple[str, str], ...], socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            os._exit(0)
        connection, _ = listener.accept()
        data, files = _receive(connection)
        environment = json.loads(data)["environment"]
        read = {k: v for k, v in environment.items() if k.startswith("METAFLOW") or k in _READ_AT_IMPORT}
        settings = tuple(sorted(read.items()))
        template = templates.pop(settings, None) or _template(listener, environment, list(templates.values()), files)
        templates[settings] = template
        socket.send_fds(template, [data], [connection.fileno(), *files])
        for file in files:
            os.close(file)
        connection.close()
        if len(templates) > _MOST_TEMPLATES:
            # It ends with its connection.
            templates.pop(next(iter(templates))).close()


def _import(names: Iterable[str]) -> None:
    for name in names:
        # What cannot be imported is told by the program that needs it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _receive(connection: socket.socket) -> tuple[bytes, Files]:
    data, files, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    while data and not data.endswith(b"\n"):
        data += connection.recv(1 << 16)
    return data, files


def _template(
    listener: socket.socket, environment: Mapping[str, str], others: Iterable[socket.socket], files: Files
) -> socket.socket:
    """Fork a process that imports Metaflow with these settings; return the connection to it."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    for one in (ours, listener, *others):
        one.close()
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    _import(METAFLOW)
    while True:
        data, given = _receive(theirs)
        if not data:
            os._exit(0)
        if os.fork() == 0:
            theirs.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            attend(socket.socket(fileno=given[0]), given[1:], json.loads(data))
        for file in given:
            os.close(file)


def attend(connection: socket.socket, files: Files, request: dict[str, Any]) -> None:
    """Run one command line and send its exit status; kill it when the client is gone."""
    child = os.fork()
    if child == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        _leave(run(request))
    # Whoever reads the output waits until nobody can write to it.
    for file in (*files, 0, 1, 2):
        os.close(file)
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([handle, connection], [], [])
    if handle not in ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def run(request: dict[str, Any]) -> int:
    """Run a command line in this process, and return the exit status that Python would have ended with."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    try:
        _execute(request["arguments"])
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _execute(arguments: list[str]) -> None:
    program, *rest = arguments
    if program == "-m":
        sys.argv = rest
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    # Metaflow puts its named tuples into the main module when it is imported, and pickles know them by that name.
    vars(main).update((name, one) for name, one in vars(sys.modules["__main__"]).items() if _is_named_tuple(one))
    sys.modules["__main__"] = main
    if program == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        code = compile(rest[0], "<string>", "exec")
    else:
        sys.argv = arguments
        file = Path.cwd() / program
        sys.path.insert(0, str(file.parent))
        vars(main)["__file__"] = str(file)
        code = compile(file.read_bytes(), program, "exec")
    exec(code, vars(main))


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, tuple) and value.__module__ == "__main__"


def _leave(status: int) -> None:
    """End this process as the interpreter does, without the clearing away of all modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    serve(sys.argv[1])
