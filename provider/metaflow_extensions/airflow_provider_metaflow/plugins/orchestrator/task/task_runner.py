"""Runs Metaflow commands in forked children of one process that has imported Metaflow once.

A *session* reads requests, one JSON object a line, and answers with events, one JSON object a line:

* ``{"op": "run", ...}`` runs one Metaflow task, after ``init`` where the request asks for it, and answers with
  ``line`` events as the task writes and one ``end`` event;
* ``{"op": "probe", ...}`` answers with one ``end`` event that tells which of the given tasks have finished;
* ``{"op": "find_tasks", ...}`` answers with the finished tasks of a step of a run that another deployer has made;
* ``{"op": "save", ...}`` puts bytes into the flow's datastore and answers with their URL;
* ``{"op": "has_run", ...}`` answers whether a run has its parameters there;
* ``{"op": "load_record", ...}`` and ``{"op": "save_record", ...}`` read and replace what is kept of a DAG run id.

When the other side closes its end the running task is killed with all its processes: nothing is orphaned. When the
session is killed, the kernel kills the task (on Linux).

Started plainly, the process is one session on its standard input and output. With ``--serve SOCKET`` it forks one
session per connection and exits after ``--idle`` seconds without any. The children share nothing but the imported
Metaflow modules: environment, working directory, signals and process group are those of a fresh process.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import shutil
import sys
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

if __name__ == "__main__" and getattr(sys.flags, "safe_path", False):
    # PYTHONSAFEPATH is for the user's code; what this file needs lies beside it.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from file_parameters import RefusedFileError, checked_arguments  # type: ignore[import-not-found]
from origin_tasks import clone_problem, find_tasks, is_own  # type: ignore[import-not-found]
from resumed_run import find_parameters  # type: ignore[import-not-found]
from task_documents import NO_RETRY  # type: ignore[import-not-found]
from task_log import TaskLog  # type: ignore[import-not-found]
from task_place import OUTCOME_VARIABLE  # type: ignore[import-not-found]
from task_process import Channel, ClientGoneError, run_command, set_environment  # type: ignore[import-not-found]
from task_results import (  # type: ignore[import-not-found]
    any_outcome,
    copy_summary,
    flow_datastore,
    is_done,
    load_record,
    read_outcome,
    save_record,
    stored_outcome,
)

if TYPE_CHECKING:
    from . import task_requests as asked
    from .task_documents import InitRequest

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

_CLONE = "--clone-only="


class Session:
    """Serves the requests of one client."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._kept = contextlib.ExitStack()

    def serve(self) -> None:
        """Answer requests until the client goes."""
        with self._kept:
            while (request := self._channel.read()) is not None:
                # Results and logs are read and written with the rights of the step, too, whichever step came before.
                set_environment(request["env"])
                try:
                    answer = getattr(self, "_" + request["op"])(request)
                except ClientGoneError:
                    return
                except Exception:  # the client gets the traceback and decides
                    answer = {"error": traceback.format_exc()}
                self._channel.write({"event": "end", **answer})

    def _run(self, request: asked.RunRequest) -> asked.RunAnswer:
        datastore = flow_datastore(request)
        init = request.get("init")
        if init and not is_done(datastore, request["run_id"], "_parameters", init["task_id"]):
            answer = self._init(request, init, datastore)
            if answer["status"] != 0:
                return answer
        task = datastore.get_task_datastore(
            request["run_id"], request["step"], request["task_id"], attempt=request["attempt"], mode="w"
        )
        origin = next((one for one in request["arguments"] if one.startswith(_CLONE)), None)
        problem = self._clone_problem(request, datastore, origin.removeprefix(_CLONE)) if origin else None
        if problem is not None:
            self._channel.line("stderr", problem)
            return {"status": NO_RETRY, "phase": "step", "outcome": None}
        outcome_file = request["env"][OUTCOME_VARIABLE]
        folder = os.path.dirname(outcome_file)
        if not os.path.isdir(folder):
            # Removed with the session, which outlives a client that is killed.
            os.mkdir(folder, 0o700)
            self._kept.callback(shutil.rmtree, folder, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(outcome_file)
        log = TaskLog(partial(self._channel.line, "stderr"), task)
        status = run_command(self._channel, request, request["arguments"], log)
        outcome = None
        if status == 0:
            if origin is not None:
                where = (request["run_id"], request["step"], request["task_id"], request["attempt"])
                copy_summary(datastore, *where, origin.removeprefix(_CLONE))
            outcome = read_outcome(outcome_file) or stored_outcome(
                datastore, request["run_id"], request["step"], request["task_id"], request["attempt"]
            )
        return {"status": status, "phase": "step", "outcome": outcome}

    def _clone_problem(self, request: asked.RunRequest, datastore: Any, origin: str) -> str | None:
        outcome = any_outcome(datastore, *origin.split("/"))
        problem: str | None = clone_problem(datastore, request["run_id"], request["step"], outcome)
        return problem

    def _init(self, request: asked.RunRequest, init: InitRequest, datastore: Any) -> asked.RunAnswer:
        try:
            arguments = checked_arguments(init, request["flow_name"], datastore._storage_impl)
        except RefusedFileError as error:
            self._channel.line("stderr", str(error))
            return self._refused(error.message, error.hint)
        inherited = init.get("inherit")
        if inherited and find_parameters(datastore, inherited["run"]) is None:
            # Before anything of this run is stored: with the parameters of no run it would compute something else.
            message = "the run %s, which is to be resumed, has stored no parameters." % inherited["run"]
            self._channel.line("stderr", "flow %s: %s" % (request["flow_name"], message))
            return self._refused(message, "Name a run of this flow in this datastore, or start a new run.")
        status = run_command(self._channel, {**request, "inherit": inherited}, arguments, None)
        return {"status": status, "phase": "init", "outcome": None}

    def _refused(self, message: str, hint: str) -> asked.RunAnswer:
        refused: asked.Refusal = {"message": message, "hint": hint}
        return {"status": NO_RETRY, "phase": "init", "outcome": None, "refused": refused}

    def _probe(self, request: asked.ProbeRequest) -> asked.ProbeAnswer:
        datastore = flow_datastore(request)
        found = []
        for task_id in request["task_ids"]:
            outcome = stored_outcome(datastore, request["run_id"], request["step"], task_id, request["min_attempt"])
            found.append(outcome)
            if outcome is None and request["stop_at_missing"]:
                break
        return {"outcomes": found}

    def _find_tasks(self, request: asked.FindTasksRequest) -> asked.FindTasksAnswer:
        datastore, run_id = flow_datastore(request), request["run_id"]
        if is_own(datastore, run_id):
            return {"outcomes": None}
        # Each of a thousand splits would read all the others.
        name = "%s.origin.%s" % (request["resumed"], request["step"])
        known = load_record(datastore, name)
        if known is None:
            known = find_tasks(datastore, run_id, request["step"], request["depth"], request["gang"])
            save_record(datastore, name, known)
        return {"outcomes": known}

    def _save(self, request: asked.SaveRequest) -> asked.SaveAnswer:
        data = base64.b64decode(request["data"])
        url, _ = flow_datastore(request).save_data([data], len_hint=1)[0]
        return {"url": url}

    def _has_run(self, request: asked.HasRunRequest) -> asked.HasRunAnswer:
        return {"found": is_done(flow_datastore(request), request["run_id"], request["step"], request["task_id"])}

    def _load_record(self, request: asked.LoadRecordRequest) -> asked.RecordAnswer:
        return {"record": load_record(flow_datastore(request), request["name"])}

    def _save_record(self, request: asked.SaveRecordRequest) -> dict[str, None]:
        save_record(flow_datastore(request), request["name"], request["record"])
        return {}


def import_metaflow() -> None:
    """Import what nearly every step needs, so that children find it there.

    Not ``metaflow.cli`` and its commands: these modules take options from the flow that is loaded by then.
    """
    from importlib import import_module

    for name in _PRELOADED:
        import_module(name)
    with contextlib.suppress(ImportError):  # for `_end_with`
        import_module("ctypes")

    # step_decorator.py stands beside this file, which need not be the copy inside the code package.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    import step_decorator  # type: ignore[import-not-found]  # noqa: F401

    sys.path.remove(here)


READY = b"\n"
"""What a session on a socket begins with. A client that hears nothing came when the process was about to exit."""


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
            _serve_session(connection.fileno(), connection.fileno(), READY)
        active.add(pid)
        connection.close()


def _serve_session(reader: int, writer: int, greeting: bytes = b"") -> None:
    try:
        os.write(writer, greeting)
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
    import_metaflow()
    if options.serve:
        os.close(reader)
        os.close(writer)
        _serve(options.serve, options.idle)
    else:
        _serve_session(reader, writer)


if __name__ == "__main__":
    main()
