"""Runs one Metaflow task in a container, in the interpreter that fetched the code package.

Metaflow is imported once; ``init`` and ``step`` are forked from it (``task_runner.py``). Output goes to the container's
streams and to Metaflow's log store, the outcome document to the sink that the orchestrator named.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .task_documents import (
        Outcome,
        StepDocument,
        TaskArguments,
        TaskDocument,
    )
    from .task_requests import RunAnswer, RunRequest

SINK_VARIABLE = "METAFLOW_ORCHESTRATOR_SINK"
"""Environment variable with the file that the outcome goes to, e.g. the container's termination log."""

REASON_VARIABLE = "METAFLOW_ORCHESTRATOR_REASON"
"""Environment variable with the file that the last line of a failed task goes to, as plain text."""

MAX_SINK_BYTES = 4096
"""Size of a termination message (Kubernetes: ``terminationMessagePath``); the kubelet cuts longer ones."""

_KILLED = 128 + signal.SIGTERM
_LAST_LINES = 5


def main(document: Mapping[str, Any], root: str) -> int:
    """Run the task that a document describes; return the exit status.

    :param document: a :class:`TaskDocument` of the core; or of the adapters a :class:`StepDocument`, the
        :class:`MachineDocument` of all steps, or a :class:`SideDocument`, whose own keys are those of ``aside``.
    :param root: folder that the code package was unpacked in.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    import machine_task  # type: ignore[import-not-found]
    import placed_task  # type: ignore[import-not-found]
    import side_task  # type: ignore[import-not-found]
    import task_results  # type: ignore[import-not-found]
    import task_runner  # type: ignore[import-not-found]

    sys.path.remove(here)
    if "aside" in document:
        return int(side_task.main({**document, **document["aside"]}, root))
    of_machine = "each" in document
    if of_machine:
        document = machine_task.choose(document)
    # Before Metaflow is imported, which reads its configuration then.
    document = {**document, "env": {**document.get("step_env", {}), **document["env"]}}
    os.environ.update(document["env"])
    if "sources" not in document:
        whole = cast("TaskDocument", document)
        task = _prepare(whole)
        task_runner.import_metaflow()
        return _run(task_runner, _request(whole, task, root))[0]
    task_runner.import_metaflow()
    if of_machine:
        machine_task.arrive(document, task_results)
    placed: StepDocument = placed_task.complete(document, task_results)
    status, outcome = 0, placed.get("finished")
    if outcome:
        print("An earlier try has finished this task; its result stands.", file=sys.stderr)
    else:
        whole = cast("TaskDocument", placed)
        status, outcome = _run(task_runner, _request(whole, _prepare(whole), root))
    if outcome is not None:
        placed_task.write_outputs(outcome, placed)
    return int(machine_task.depart(placed, task_results, status, outcome)) if of_machine else status


def _prepare(document: TaskDocument) -> TaskArguments:
    """Return the task of this container, with the variables that its process needs set."""
    task = _own_task(document)
    if "gang" in document:
        task = _gang_member(document, task)
    os.environ["METAFLOW_TASK_ID"] = task["task_id"]
    return task


def _run(task_runner: Any, request: RunRequest) -> tuple[int, Outcome | None]:
    # TaskLog saves the logs, without a process of its own.
    from metaflow.plugins import SIDECARS

    SIDECARS.pop("save_logs_periodically", None)
    reader, writer = os.pipe()
    channel = _make_channel(task_runner, reader)
    # A closed pipe is how a session learns that its client is gone, and kills the task with all its processes.
    signal.signal(signal.SIGTERM, lambda *_: os.close(writer))
    try:
        answer: RunAnswer = task_runner.Session(channel)._run(request)
    except task_runner.ClientGoneError:
        return int(_KILLED), None
    status = answer["status"]
    if status != 0:
        how = "init" if answer["phase"] == "init" else "step"
        _write_sink({"failed": how, "status": status, "last_lines": list(channel.last_lines)})
        _write_reason(list(channel.last_lines))
        return (status if status > 0 else 128 - status), None
    if answer["outcome"] is None:
        print("The step exited with 0 but has no result in the datastore.", file=sys.stderr)
        return 1, None
    _write_sink(answer["outcome"])
    return 0, answer["outcome"]


def _make_channel(task_runner: Any, reader: int) -> Any:
    class Streams(task_runner.Channel):
        """Passes a task's lines on to the container's own streams."""

        def __init__(self) -> None:
            super().__init__(reader, -1)
            self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)

        def line(self, stream: str, text: str) -> None:
            print(text, file=sys.stderr if stream == "stderr" else sys.stdout, flush=True)
            if text.strip():
                self.last_lines.append(text.strip()[-300:])

    return Streams()


def _request(document: TaskDocument, task: TaskArguments, root: str) -> RunRequest:
    from task_place import OUTCOME_VARIABLE  # type: ignore[import-not-found]

    outcome = os.path.join(root, ".outcome.%s.json" % task["task_id"])
    return {
        "flow_name": document["flow_name"],
        "flow_file": os.path.join(root, document["flow_file"]),
        "cwd": root,
        "package": document.get("package"),
        "step": document["step"],
        "run_id": document["run_id"],
        "task_id": task["task_id"],
        "attempt": document["attempt"],
        "arguments": [*document["arguments"], *task["arguments"]],
        "init": document.get("init"),
        "time_limit": document.get("time_limit"),
        "datastore": document["datastore"],
        "datastore_root": document["datastore_root"],
        "env": {**os.environ, OUTCOME_VARIABLE: outcome},
    }


def _own_task(document: TaskDocument) -> TaskArguments:
    """Return the task of this container: that of its index in an array of jobs, else the only one."""
    tasks = document["tasks"]
    # A state machine gives each child its own task alone.
    return tasks[int(os.environ.get("AWS_BATCH_JOB_ARRAY_INDEX", "0")) if len(tasks) > 1 else 0]


def _gang_member(document: TaskDocument, control: TaskArguments) -> TaskArguments:
    """Return the task of this node of a ``@parallel`` step, and tell the compute decorators which node it is.

    Names of tasks and variables are those of ``metaflow.plugins.kubernetes`` and ``metaflow.plugins.aws.batch``.
    """
    os.environ["MF_PARALLEL_CONTROL_TASK_ID"] = control["task_id"]
    on_batch = "AWS_BATCH_JOB_NODE_INDEX" in os.environ
    index = int(os.environ.get("AWS_BATCH_JOB_NODE_INDEX" if on_batch else "JOB_COMPLETION_INDEX", "0"))
    if not on_batch:
        os.environ["MF_WORLD_SIZE"] = str(document["gang"])
        _wait_for_name(os.environ["MF_MASTER_ADDR"])
    if index == 0:
        os.environ["MF_CONTROL_INDEX"] = "0"
        return control
    os.environ["MF_WORKER_REPLICA_INDEX"] = str(index - 1)
    # The orchestrator listens to the control task alone.
    os.environ.pop(SINK_VARIABLE, None)
    clones = document.get("clones")
    if clones:
        return _cloned_member(control["task_id"], clones, index)
    suffix = "-node-%d" % index if on_batch else "-worker-%d" % (index - 1)
    name = control["task_id"].removeprefix("control-") + suffix
    arguments = ["--task-id=%s" % name, "--split-index=%d" % index, "--ubf-context=ubf_task"]
    return {"task_id": name, "arguments": arguments}


def _cloned_member(control: str, clones: list[str], index: int) -> TaskArguments:
    """Return the task of a node of a gang whose result is cloned; its user code would wait for the control node."""
    from task_results import node_ids

    name = node_ids([one.rpartition("/")[2] for one in clones], control)[index]
    return {"task_id": name, "arguments": ["--task-id=%s" % name, "--clone-only=%s" % clones[index]]}


def _wait_for_name(host: str, seconds: float = 600) -> None:
    """Wait until the name of the control node resolves; its pod may come later than this one."""
    import socket
    import time

    end = time.monotonic() + seconds
    while not _resolves(socket, host):
        if time.monotonic() > end:
            raise TimeoutError("The name %s of the control node does not resolve after %d s." % (host, seconds))
        time.sleep(0.5)


def _resolves(socket: Any, host: str) -> bool:
    try:
        socket.gethostbyname(host)
    except socket.gaierror:
        return False
    return True


def _write_reason(lines: list[str]) -> None:
    """Write the last line of a failed task where the orchestrator shows it, if it named a file for that."""
    path = os.environ.get(REASON_VARIABLE)
    if path and lines:
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
            file.write(lines[-1])


def _write_sink(outcome: Mapping[str, object]) -> None:
    """Tell the orchestrator of an outcome or a failure, if it named a file for that."""
    path = os.environ.get(SINK_VARIABLE)
    if not path:
        return
    text = json.dumps(outcome)
    if len(text) > MAX_SINK_BYTES:
        # Labels of splits are what grows; the orchestrator reads them from the datastore.
        text = json.dumps({"too_long": True})
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print("The outcome could not be written to %s: %s" % (path, error), file=sys.stderr)
