"""One Metaflow command as a forked child of a process that has imported Metaflow, and who watches it.

Environment, working directory, signals and process group of the child are those of a fresh process.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import selectors
import signal
import sys
import tempfile
import time
import traceback
from typing import IO, Any

KILL_GRACE_SECONDS = 10.0
SMALL_LOG_BYTES = 1024 * 1024
"""Logs up to this size are saved from memory, as ``metaflow.mflog.save_logs`` does."""


class Channel:
    """The other side of a session: lines of JSON in and out."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        self._buffer = b""

    def read(self) -> dict[str, Any] | None:
        """Return the next request, or None when the other side has gone."""
        while b"\n" not in self._buffer:
            data = os.read(self.reader, 1 << 16)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        request: dict[str, Any] = json.loads(line)
        return request

    def write(self, event: dict[str, Any]) -> None:
        """Send an event; a vanished reader shows in :meth:`read`, not here."""
        data = memoryview(json.dumps(event).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while data:
                data = data[os.write(self.writer, data) :]


class TaskLog:
    """Captures the two streams of a task in Metaflow's structured form, and forwards them line by line."""

    def __init__(self, channel: Channel, task_datastore: Any) -> None:
        from metaflow.mflog import TASK_LOG_SOURCE, update_delay
        from metaflow.mflog.mflog import decorate

        self._decorate, self._source, self._delay = decorate, TASK_LOG_SOURCE, update_delay
        self._channel = channel
        self._datastore = task_datastore
        self._partial = {"stdout": b"", "stderr": b""}
        self._files = {name: tempfile.TemporaryFile() for name in self._partial}  # noqa: SIM115
        self._started = self._saved = time.monotonic()
        self._dirty = True

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes as they were read from the task."""
        *lines, self._partial[stream] = (self._partial[stream] + data).split(b"\n")
        for line in lines:
            self._line(stream, line)

    def _line(self, stream: str, line: bytes) -> None:
        self._dirty = True
        self._files[stream].write(self._decorate(self._source, line + b"\n"))
        self._channel.write({"event": "line", "stream": stream, "text": line.decode("utf-8", "replace")})

    def save_if_due(self) -> None:
        """Save at the pace of Metaflow's own log sidecar, so that a running task's log can be followed."""
        now = time.monotonic()
        # Less often than the sidecar at first: each save rewrites the whole file.
        if self._dirty and now - self._saved > max(5.0, self._delay(now - self._started)):
            self.save()

    def finish(self) -> None:
        """Take unfinished last lines and save."""
        for stream, rest in self._partial.items():
            if rest:
                self._line(stream, rest)
        self.save()

    def save(self) -> None:
        """Write both logs to the datastore; a failure to do so is told, but fails no task."""
        self._saved, self._dirty = time.monotonic(), False
        try:
            self._datastore.save_logs(self._source, {name: self._content(name) for name in self._files})
        except Exception as error:  # the task's own result counts, whatever happens to its log
            text = f"Metaflow log could not be saved: {error}"
            self._channel.write({"event": "line", "stream": "stderr", "text": text})

    def _content(self, name: str) -> Any:
        file = self._files[name]
        file.flush()
        if file.tell() <= SMALL_LOG_BYTES:
            return os.pread(file.fileno(), file.tell(), 0)
        from pathlib import Path

        return Path(f"/proc/self/fd/{file.fileno()}") if sys.platform == "linux" else _read_all(file)


def _read_all(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), file.tell(), 0)


class ClientGoneError(Exception):
    """The client went away while its task ran; the task has been killed."""


def run_command(channel: Channel, request: dict[str, Any], arguments: list[str], log: TaskLog | None) -> int:
    """Run one Metaflow command; return its exit status, negative for a signal.

    :param channel: where its output goes, and whose end ends it.
    :param request: environment, folder and flow file, and how many seconds it may take.
    :param arguments: what follows the flow file on the command line.
    :param log: Metaflow's log of the task, if it is one.
    :raises ClientGoneError: if the other side has gone.
    """
    streams = {"stdout": os.pipe(), "stderr": os.pipe()}
    pid = os.fork()
    if pid == 0:
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
        elif self._log:
            self._log.feed(key.data, data)
        else:
            for line in data.decode("utf-8", "replace").splitlines():
                self._channel.write({"event": "line", "stream": key.data, "text": line})

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
        if self._log:
            self._log.finish()
        if self._client_gone:
            raise ClientGoneError
        if self._deadline and time.monotonic() > self._deadline and status < 0:
            text = "The time limit of the task is over; it was killed."
            self._channel.write({"event": "line", "stream": "stderr", "text": text})
        return status


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _become_metaflow(request: dict[str, Any], arguments: list[str], streams: dict[str, tuple[int, int]]) -> None:
    """Turn a forked child into ``python FLOW_FILE ARGUMENTS``; never returns."""
    code = 1
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(streams[name][1], number)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.closerange(3, _max_descriptor())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = _text_stream(1)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _text_stream(2)  # type: ignore[misc]
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        os.chdir(request["cwd"])
        flow_file = request["flow_file"]
        sys.argv = [flow_file, *arguments]
        sys.path.insert(0, os.path.dirname(flow_file))
        code = _execute(flow_file)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(_shut_down(code))


def _execute(flow_file: str) -> int:
    from types import ModuleType

    runner = sys.modules["__main__"]
    main = ModuleType("__main__")
    main.__dict__.update({name: value for name, value in vars(runner).items() if _is_pickled(value)})
    main.__dict__.update(__file__=flow_file, __builtins__=__builtins__)
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


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    raw = open(descriptor, "wb", buffering=io.DEFAULT_BUFFER_SIZE, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _max_descriptor() -> int:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if 0 < soft < 65536 else 65536
