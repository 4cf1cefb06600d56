"""One Metaflow command as a forked child of a process that has imported Metaflow, and what watches it.

Environment, working directory, signals and process group of the child are those of a fresh process.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resumed_run import inherit_parameters  # type: ignore[import-not-found]
from task_log import LiveLines, TaskLog, text_stream  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_requests import CommandRequest, LineEvent

KILL_GRACE_SECONDS = 10.0


class Channel:
    """The other side of a session: lines of JSON in and out."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        self._buffer = bytearray()

    def read(self) -> Any:
        """Return the next request, one of those of ``task_requests``, or None when the other side has gone."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            data = os.read(self.reader, 1 << 16)
            if not data:
                return None
            self._buffer += data
        request = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        return request

    def line(self, stream: str, text: str) -> None:
        """Send a line of a task.

        :param stream: ``stdout`` or ``stderr``.
        :param text: the line, without its end.
        """
        event: LineEvent = {"event": "line", "stream": stream, "text": text}
        self.write(event)

    def write(self, event: Mapping[str, object]) -> None:
        """Send an event; a vanished reader shows in :meth:`read`, not here.

        :param event: a line, or an answer with ``"event": "end"``.
        """
        data = memoryview(json.dumps(event).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while data:
                data = data[os.write(self.writer, data) :]


class ClientGoneError(Exception):
    """The client went away while its task ran; the task has been killed."""


def run_command(channel: Channel, request: CommandRequest, arguments: list[str], log: TaskLog | None) -> int:
    """Run one Metaflow command; return its exit status, negative for a signal.

    :param channel: where its output goes, and whose end ends it.
    :param request: environment, folder and flow file, and how many seconds it may take.
    :param arguments: what follows the flow file on the command line.
    :param log: Metaflow's log of the task, if it is one.
    :raises ClientGoneError: if the other side has gone.
    """
    streams = {"stdout": os.pipe(), "stderr": os.pipe()}
    watcher = os.getpid()
    pid = os.fork()
    if pid == 0:
        _end_with(watcher)
        _become_metaflow(request, arguments, streams)
    for _, write_end in streams.values():
        os.close(write_end)
    readers = {name: read_end for name, (read_end, _) in streams.items()}
    return _Supervisor(channel, pid, readers, log, request.get("time_limit")).wait()


class _Supervisor:
    """Watches one child: forwards its output, and kills it when time is up or the client has gone."""

    def __init__(
        self, channel: Channel, pid: int, readers: dict[str, int], log: TaskLog | None, limit: float | None
    ) -> None:
        self._channel, self._pid, self._log = channel, pid, log
        self._live = {name: LiveLines(partial(channel.line, name)) for name in readers}
        self._selector = selectors.DefaultSelector()
        for name, descriptor in readers.items():
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, name)
        self._selector.register(channel.reader, selectors.EVENT_READ, "client")
        self._open = len(readers)
        self._deadline = time.monotonic() + limit if limit else None
        self._client_gone = False

    def wait(self) -> int:
        status = None
        drain_until = None
        while True:
            # With the streams closed nothing announces the exit but the status itself.
            for key, _ in self._selector.select(0.05 if self._open else 0.005):
                self._read(key)
            if status is None:
                done, code = os.waitpid(self._pid, os.WNOHANG)
                if done:
                    status = os.waitstatus_to_exitcode(code)
                    drain_until = time.monotonic() + 1.0
                elif self._client_gone or (self._deadline and time.monotonic() > self._deadline):
                    status = self._kill()
                    drain_until = time.monotonic() + 1.0
            if status is not None and (not self._open or time.monotonic() > (drain_until or 0)):
                break
            for lines in self._live.values():
                lines.show_if_due()
            if self._log:
                self._log.save_if_due()
        return self._finish(status)

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data == "client":
            # A client sends its next request only after our answer, so this is its end.
            self._client_gone = True
            self._selector.unregister(key.fd)
            return
        try:
            data = os.read(key.fd, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(key.fd)
            os.close(key.fd)
            self._open -= 1
        else:
            if self._log:
                self._log.feed(key.data, data)
            self._live[key.data].feed(data)

    def _kill(self) -> int:
        _signal_group(self._pid, signal.SIGTERM)
        end = time.monotonic() + KILL_GRACE_SECONDS
        while time.monotonic() < end:
            done, code = os.waitpid(self._pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(code)
            time.sleep(0.02)
        _signal_group(self._pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _finish(self, status: int) -> int:
        # What the step left behind in its group ends with it, as it would with a pod.
        _signal_group(self._pid, signal.SIGKILL)
        for key in list(self._selector.get_map().values()):
            if key.data != "client":
                os.close(key.fd)
        self._selector.close()
        for lines in self._live.values():
            lines.finish()
        if self._log:
            self._log.finish()
        if self._client_gone:
            raise ClientGoneError
        if self._deadline and time.monotonic() > self._deadline and status < 0:
            self._channel.line("stderr", "The time limit of the task is over; it was killed.")
        return status


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def set_environment(environment: dict[str, str]) -> None:
    """Make these the variables of this process, and forget clients of clouds that were made with others.

    :param environment: all variables.
    """
    os.environ.clear()
    os.environ.update(environment)
    boto3 = sys.modules.get("boto3")
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]
    # `metaflow.plugins`; Metaflow itself makes new ones in a new process, by the process's id.
    for module, path in (
        ("metaflow.plugins.gcp.gs_storage_client_factory", ("_client_cache",)),
        ("metaflow.plugins.azure.blob_service_client_factory", ("_ClientCache", "_cache")),
    ):
        found: Any = sys.modules.get(module)
        for name in path:
            found = getattr(found, name, None)
        if found:
            found.clear()


def _end_with(watcher: int) -> None:
    """Have the kernel kill this process when its parent is killed, or the next try would run beside it."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError):  # a Python may have been built without it
            import_module("ctypes").CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != watcher:
            os._exit(1)


def _become_metaflow(request: CommandRequest, arguments: list[str], streams: dict[str, tuple[int, int]]) -> None:
    """Turn a forked child into ``python FLOW_FILE ARGUMENTS``; never returns."""
    code = 1
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(streams[name][1], number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(3, _max_descriptor())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = text_stream(1)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = text_stream(2)  # type: ignore[misc]
        set_environment(request["env"])
        time.tzset()
        os.chdir(request["cwd"])
        flow_file = request["flow_file"]
        sys.argv = [flow_file, *arguments]
        inherited = request.get("inherit")
        if inherited:
            inherit_parameters(inherited["run"], inherited["given"])
        package = request.get("package") or None
        # As `python FLOW_FILE` has it, or `python -m PACKAGE.FLOW`; and behind all else the root of the project, and
        # what the orchestrator lets its own code import.
        sys.path.insert(0, request["cwd"] if package else os.path.dirname(flow_file))
        sys.path.extend(one for one in (request["cwd"], *request.get("import_paths", ())) if one not in sys.path)
        code = _execute(flow_file, package)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(_shut_down(code))


def _execute(flow_file: str, package: str | None = None) -> int:
    from types import ModuleType

    runner = sys.modules["__main__"]
    main = ModuleType("__main__")
    main.__dict__.update({name: value for name, value in vars(runner).items() if _is_pickled(value)})
    main.__dict__.update(__file__=flow_file, __builtins__=__builtins__, __package__=package)
    sys.modules["__main__"] = main
    try:
        with open(flow_file, "rb") as file:
            code = compile(file.read(), flow_file, "exec")
        exec(code, main.__dict__)  # noqa: S102  (`python FLOW_FILE` is what this stands for)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _is_pickled(value: object) -> bool:
    """Tell whether it is one of the classes that Metaflow puts into ``__main__`` to pickle them."""
    return isinstance(value, type) and issubclass(value, tuple)


def _shut_down(code: int) -> int:
    """Do what the interpreter does at its end, as ``multiprocessing`` does for its forked children."""
    import atexit
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        return code or 1
    return code


def _max_descriptor() -> int:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if 0 < soft < 65536 else 65536
