"""Runs Metaflow commands in forked children of one process that has imported Metaflow once.

A *session* reads requests, one JSON object a line, and answers with events, one JSON object a line:

* ``{"op": "run", ...}`` runs one Metaflow task, after ``init`` where the request asks for it, and answers with
  ``line`` events as the task writes and one ``end`` event;
* ``{"op": "probe", ...}`` answers with one ``end`` event that tells which of the given tasks have finished;
* ``{"op": "save", ...}`` puts bytes into the flow's datastore and answers with their URL.

When the other side closes its end the running task is killed with all its processes: nothing is orphaned.

Started plainly, the process is one session on its standard input and output. With ``--serve SOCKET`` it forks one
session per connection and exits after ``--idle`` seconds without any. The children share nothing but the imported
Metaflow modules: environment, working directory, signals and process group are those of a fresh process.
"""

from __future__ import annotations

import argparse
import base64
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


_PRELOADED = (
    "metaflow",
    "metaflow.cli_args",
    "metaflow.cli_components.utils",
    "metaflow.client.filecache",
    "metaflow.datastore",
    "metaflow.lint",
    "metaflow.metaflow_environment",
    "metaflow.mflog.mflog",
    "metaflow.package",
    "metaflow.plugins",
    "metaflow.pylint_wrapper",
    "metaflow.system",
    "metaflow.task",
    "metaflow.user_configs.config_options",
)


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


class Session:
    """Serves the requests of one client."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def serve(self) -> None:
        """Answer requests until the client goes."""
        while (request := self._channel.read()) is not None:
            try:
                answer = getattr(self, "_" + request["op"])(request)
            except ClientGoneError:
                return
            except Exception:  # told to the client, which decides what it means
                answer = {"error": traceback.format_exc()}
            self._channel.write({"event": "end", **answer})

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        flow_datastore = _flow_datastore(request)
        init = request.get("init")
        if init and not _is_done(flow_datastore, request["run_id"], "_parameters", init["task_id"]):
            status = self._child(request, init["arguments"], None)
            if status != 0:
                return {"status": status, "phase": "init", "outcome": None}
        task = flow_datastore.get_task_datastore(
            request["run_id"], request["step"], request["task_id"], attempt=request["attempt"], mode="w"
        )
        outcome_file = request["env"].get("METAFLOW_ORCHESTRATOR_OUTCOME")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(outcome_file)
        status = self._child(request, request["arguments"], TaskLog(self._channel, task))
        outcome = None
        if status == 0:
            outcome = _read_outcome(outcome_file) or _stored_outcome(
                flow_datastore, request["run_id"], request["step"], request["task_id"], request["attempt"]
            )
        return {"status": status, "phase": "step", "outcome": outcome}

    def _probe(self, request: dict[str, Any]) -> dict[str, Any]:
        datastore = _flow_datastore(request)
        found = []
        for task_id in request["task_ids"]:
            outcome = _stored_outcome(
                datastore, request["run_id"], request["step"], task_id, request.get("min_attempt", 0)
            )
            found.append(outcome)
            if outcome is None and request.get("stop_at_missing"):
                break
        return {"outcomes": found}

    def _save(self, request: dict[str, Any]) -> dict[str, Any]:
        data = base64.b64decode(request["data"])
        url, _ = _flow_datastore(request).save_data([data], len_hint=1)[0]
        return {"url": url}

    def _child(self, request: dict[str, Any], arguments: list[str], log: TaskLog | None) -> int:
        """Run one Metaflow command; return its exit status, negative for a signal."""
        streams = {"stdout": os.pipe(), "stderr": os.pipe()}
        pid = os.fork()
        if pid == 0:
            _become_metaflow(request, arguments, streams)
        for _, write_end in streams.values():
            os.close(write_end)
        readers = {name: read_end for name, (read_end, _) in streams.items()}
        return _Supervisor(self._channel, pid, readers, log, request.get("time_limit")).wait()


class ClientGoneError(Exception):
    """The client went away while its task ran; the task has been killed."""


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


_OWN_NAMES = frozenset(globals())
"""Names of this module before Metaflow is imported, which puts classes of its own into ``__main__`` to pickle them."""


def _execute(flow_file: str) -> int:
    from types import ModuleType

    runner = sys.modules["__main__"]
    main = ModuleType("__main__")
    main.__dict__.update({name: value for name, value in vars(runner).items() if _is_pickled(name, value)})
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


def _is_pickled(name: str, value: object) -> bool:
    return name not in _OWN_NAMES and isinstance(value, type) and issubclass(value, tuple)


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


def _flow_datastore(request: dict[str, Any]) -> Any:
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins import DATASTORES

    implementation = next(d for d in DATASTORES if request["datastore"] == d.TYPE)
    return FlowDataStore(request["flow_name"], None, storage_impl=implementation, ds_root=request["datastore_root"])


def _is_done(datastore: Any, run_id: str, step: str, task_id: str) -> bool:
    return _latest_done(datastore, run_id, step, task_id) is not None


def _latest_done(datastore: Any, run_id: str, step: str, task_id: str) -> Any:
    from metaflow.datastore.exceptions import DataException

    try:
        return datastore.get_task_datastore(run_id, step, task_id)
    except DataException:
        return None


def _read_outcome(path: str | None) -> dict[str, Any] | None:
    if path is None or not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        outcome: dict[str, Any] = json.load(file)
    return outcome


def _stored_outcome(datastore: Any, run_id: str, step: str, task_id: str, min_attempt: int) -> dict[str, Any] | None:
    """Read from the datastore what the step decorator would have reported."""
    task = _latest_done(datastore, run_id, step, task_id)
    if task is None or task.attempt < min_attempt or not task.get("_task_ok"):
        return None
    from step_decorator import describe_outcome  # type: ignore[import-not-found]

    outcome: dict[str, Any] = describe_outcome(task.get, task_id, task.attempt)
    return outcome


def _import_metaflow() -> None:
    """Import what nearly every step needs, so that children find it there.

    Not ``metaflow.cli`` and its commands: these modules take options from the flow that is loaded by then.
    """
    from importlib import import_module

    for name in _PRELOADED:
        import_module(name)

    # step_decorator.py stands beside this file, which need not be the copy inside the code package.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    import step_decorator  # noqa: F401

    sys.path.remove(here)


def _serve(socket_path: str, idle_seconds: float) -> None:
    """Fork one session per connection until there is none for a while."""
    import fcntl
    import gc
    import socket

    listener = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket_path)
    temporary = f"{socket_path}.{os.getpid()}"
    listener.bind(temporary)
    os.chmod(temporary, 0o600)
    listener.listen(256)
    os.rename(temporary, socket_path)
    listener.settimeout(min(idle_seconds, 1.0))
    gc.collect()
    gc.freeze()
    active: set[int] = set()
    last_used = time.monotonic()
    while True:
        active -= {pid for pid in active if os.waitpid(pid, os.WNOHANG)[0]}
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            if active:
                last_used = time.monotonic()
            elif time.monotonic() - last_used > idle_seconds:
                with open(socket_path[: -len(".sock")] + ".lock", "w") as lock:
                    try:
                        # A client that is about to connect holds the lock; then stay.
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    os.unlink(socket_path)
                    listener.close()
                return
            continue
        last_used = time.monotonic()
        pid = os.fork()
        if pid == 0:
            listener.close()
            connection.setblocking(True)
            _serve_session(connection.fileno(), connection.fileno())
        active.add(pid)
        connection.close()


def _serve_session(reader: int, writer: int) -> None:
    try:
        Session(Channel(reader, writer)).serve()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serve one session on the standard streams, or many on a socket."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="SOCKET")
    parser.add_argument("--idle", type=float, default=60.0)
    options = parser.parse_args()
    sys.path.pop(0)  # this file's folder
    reader, writer = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever is printed here must not look like an event
    _import_metaflow()
    if options.serve:
        os.close(reader)
        os.close(writer)
        _serve(options.serve, options.idle)
    else:
        _serve_session(reader, writer)


if __name__ == "__main__":
    main()
