"""Runs Metaflow tasks as processes of the worker."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.compute.error_text import ErrorText
from metaflow_orchestration.cache import Cache
from metaflow_orchestration.compile.inputs.layout import own_import_paths
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.exceptions import FinalFailureError, ParameterValueError, StepFailedError
from metaflow_orchestration.graph.identity import PARAMETERS_STEP, PARAMETERS_TASK
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import (
    NO_RETRY,
    Inherited,
    StepCall,
    init_request,
    resumed_variables,
    step_arguments,
    task_variables,
)

from .code import unpacked
from .runner import LineWriter, Runner, RunnerSettings, process_variables, step_environment

_LIMIT_SLACK_SECONDS = 60
"""How much later than Metaflow's own ``@timeout`` the process is killed, so that retry and catch can see it."""

_LINE_CHARACTERS = 64 * 1024
"""Longer lines are shown in parts."""


@dataclass(slots=True)
class LocalCompute:
    """All Metaflow tasks of one Airflow task instance; a context manager that leaves no process behind.

    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param cache: the cache of unpacked packages, or its folder.
    :param python: interpreter.
    :param warm: see :class:`~.runner.RunnerSettings`.
    :param idle_seconds: see :class:`~.runner.RunnerSettings`.
    :param links: metadata that link the tasks to the orchestrator.
    :param variables: further variables of the orchestrator.
    :param on_line: takes each line of output.
    :param inherited: of a run that resumes another one: where its parameters come from.
    :param resumed: whether tasks before this one may have seen other parameters than those of the run.
    """

    manifest: Manifest
    code: CodePackage
    cache: Cache | Path
    python: str
    warm: bool
    idle_seconds: float
    links: Mapping[str, str]
    variables: Mapping[str, str]
    on_line: LineWriter
    inherited: Inherited | None = None
    resumed: bool = False
    _runner: Runner | None = None
    _shape: Mapping[str, str] = field(default_factory=dict)
    _root: Path | None = None
    _kept: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _scratch: tempfile.TemporaryDirectory[str] | None = None
    _module: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """Kill a task that still runs and hang up."""
        self._kill_module()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            runner.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        self._root = None
        self._kept.close()

    def __enter__(self) -> LocalCompute:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, call: StepCall, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run one task and return its outcome document.

        :param call: which task.
        :param parameters: for the start step, the parameters of the run.
        :raises StepFailedError: if it failed.
        """
        environment = self._environment(call)
        request = {
            **self._base("run", call.step.name, environment),
            "run_id": call.run_id,
            "task_id": call.task_id,
            "attempt": call.attempt,
            "arguments": step_arguments(self.manifest, call),
            "time_limit": self._time_limit(call),
        }
        if parameters is not None:
            request["init"] = init_request(self.manifest, call.run_id, parameters, self.inherited)
        errors = ErrorText()

        def on_line(stream: str, text: str) -> None:
            errors.feed(stream, text)
            self.on_line(stream, text)

        answer = self._session(environment).call(request, on_line)
        self._check(call, answer, errors.message)
        outcome: dict[str, Any] = answer["outcome"]
        return outcome

    def probe(
        self, step: str, run_id: str, task_ids: Sequence[str], *, min_attempt: int = 0, stop: bool = False
    ) -> list[dict[str, Any] | None]:
        """Return the outcome documents of tasks that have finished, None for others.

        :param step: the step.
        :param run_id: Metaflow run id.
        :param task_ids: the tasks.
        :param min_attempt: results of earlier attempts do not count.
        :param stop: end the list at the first task that has not finished.
        """
        environment = self._shared_environment()
        request = {
            **self._base("probe", step, environment),
            "run_id": run_id,
            "task_ids": list(task_ids),
            "min_attempt": min_attempt,
            "stop_at_missing": stop,
        }
        found: list[dict[str, Any] | None] = self._session(environment).call(request, self.on_line)["outcomes"]
        return found

    def find_tasks(self, step: Step, run_id: str, resumed: str) -> dict[str, dict[str, Any]] | None:
        """Return the outcome documents of a step's finished tasks by the ids that this package would give them.

        None if the run was made by this package, whose tasks are found by their ids.

        :param step: the step.
        :param run_id: Metaflow run id of a run that any deployer may have made.
        :param resumed: Metaflow run id of the run that resumes it; what is found is kept beside it.
        """
        facts = {"depth": len(step.foreach_path), "gang": step.gang}
        answer = self._ask("find_tasks", step.name, run_id=run_id, resumed=resumed, **facts)
        found: dict[str, dict[str, Any]] | None = answer["outcomes"]
        return found

    def save(self, data: bytes) -> str:
        """Put bytes into the flow's datastore, by their content; return their URL.

        :param data: the bytes.
        """
        environment = self._shared_environment()
        request = {**self._base("save", "", environment), "data": base64.b64encode(data).decode()}
        url: str = self._session(environment).call(request, self.on_line)["url"]
        return url

    def has_run(self, run_id: str) -> bool:
        """Return whether a run with its parameters is in the datastore.

        :param run_id: Metaflow run id.
        """
        return bool(self._ask("has_run", PARAMETERS_STEP, run_id=run_id, task_id=PARAMETERS_TASK)["found"])

    def load_record(self, name: str) -> Any:
        """Return the record of a DAG run id from the datastore, None if there is none.

        :param name: name of the record.
        """
        return self._ask("load_record", name=name)["record"]

    def save_record(self, name: str, record: Any) -> None:
        """Replace the record of a DAG run id in the datastore.

        :param name: name of the record.
        :param record: JSON types.
        """
        self._ask("save_record", name=name, record=record)

    def _ask(self, operation: str, step: str = "", **fields: Any) -> dict[str, Any]:
        environment = self._shared_environment()
        request = {**self._base(operation, step, environment), **fields}
        return self._session(environment).call(request, self.on_line)

    def run_module(self, module: str, *arguments: str) -> None:
        """Run a module of the packaged Metaflow that is no task, e.g. an exit hook, and pass its output on.

        :param module: name of the module.
        :param arguments: its arguments.
        :raises StepFailedError: if it exits with an error.
        """
        root = self._unpacked()
        environment = {**self._shared_environment(), **self.variables, "PYTHONUNBUFFERED": "x"}
        if self.code.flow_file != Path(self.code.flow_file).name:
            # The module imports the flow file, which imports what lies beside it.
            folder = str(root / Path(self.code.flow_file).parent)
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), folder]))
        process = subprocess.Popen(
            [self.python, "-m", module, *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._module = process
        try:
            # A line without an end comes in parts.
            for line in iter(partial(process.stdout.readline, _LINE_CHARACTERS), "") if process.stdout else ():
                self.on_line("stdout", line.rstrip("\n"))
            status = process.wait()
        finally:
            self._kill_module()
        if status != 0:
            raise StepFailedError(
                f"{' '.join([module, *arguments])} exited with {status}.", flow=self.manifest.graph.name
            )

    def _kill_module(self) -> None:
        process, self._module = self._module, None
        if process is not None:
            # The whole group, so that nothing that it started is left behind.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _base(self, operation: str, step: str, environment: Mapping[str, str]) -> dict[str, Any]:
        root = self._unpacked()
        return {
            "op": operation,
            "flow_name": self.manifest.graph.name,
            "flow_file": str(root / self.code.flow_file),
            "cwd": str(root),
            "package": self.code.package,
            "import_paths": list(own_import_paths()),
            "step": step,
            "env": dict(environment),
            "datastore": self.code.datastore,
            "datastore_root": self.manifest.command.datastore_root,
        }

    def _check(self, call: StepCall, answer: Mapping[str, Any], message: str | None) -> None:
        status = answer["status"]
        pathspec = f"{self.manifest.graph.name}/{call.run_id}/{call.step.name}/{call.task_id}"
        if status == 0 and answer["outcome"] is not None:
            return
        where = {"flow": self.manifest.graph.name, "step": call.step.name}
        if answer.get("refused"):
            raise ParameterValueError(answer["refused"]["message"], flow=where["flow"], hint=answer["refused"]["hint"])
        if answer["phase"] == "init":
            raise StepFailedError(f"the run could not be registered: init exited with {status}.", **where)
        if status == 0:
            raise StepFailedError(f"task {pathspec} exited with 0 but has no result in the datastore.", **where)
        how = f"was killed by signal {-status}" if status < 0 else f"failed with exit code {status}"
        if status == NO_RETRY:
            raise FinalFailureError(
                f"task {pathspec}, attempt {call.attempt}, {how}, which asks for no further attempt.", **where
            )
        # The message of the exception comes last: it is what the reader of the log looks for.
        why = f": {message}" if message else "; its log tells why."
        raise StepFailedError(f"task {pathspec}, attempt {call.attempt}, {how}{why}", **where)

    def _time_limit(self, call: StepCall) -> int | None:
        seconds = call.step.timeout_seconds
        if seconds is None or call.attempt > call.max_user_retries:
            return None
        return seconds + max(_LIMIT_SLACK_SECONDS, seconds // 10)

    def _session(self, environment: Mapping[str, str]) -> Runner:
        shape = process_variables(environment)
        if self._runner is not None and shape != self._shape:
            # Metaflow reads its configuration when it is imported; a step may have its own.
            runner, self._runner = self._runner, None
            runner.close()
        if self._runner is None:
            self._shape = shape
            self._runner = Runner(
                RunnerSettings(
                    python=self.python,
                    root=self._unpacked(),
                    base=self._worker(),
                    environment=environment,
                    warm=self.warm,
                    idle_seconds=self.idle_seconds,
                )
            ).__enter__()
        return self._runner

    def _unpacked(self) -> Path:
        if self._root is None:
            root = self.manifest.command.datastore_root
            self._root = self._kept.enter_context(unpacked(self.code, self.cache, root, self._worker()))
        return self._root

    def _shared_environment(self) -> dict[str, str]:
        return step_environment({**self._worker(), **self.manifest.command.environment}, self._unpacked())

    def _worker(self) -> dict[str, str]:
        """Return the worker's environment, over what the deploying machine knew of the datastore."""
        return {**remote_settings(self.manifest).environment, **os.environ}

    def _environment(self, call: StepCall) -> dict[str, str]:
        """Return the environment of a task: the worker's, the user's, ours, each over the one before."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="metaflow-task-")
        path = os.environ.get("PATH", os.defpath)
        if call.step.gang:
            # Metaflow starts the other nodes of a local gang as `python`.
            path = f"{Path(self.python).parent}{os.pathsep}{path}"
        return step_environment(
            {
                **self._worker(),
                "PATH": path,
                **self.variables,
                **dict(call.step.environment),
                **self.manifest.command.environment,
                **task_variables(self.code, call),
                **(resumed_variables(call.run_id) if self.resumed else {}),
                "METAFLOW_TASK_ID": call.task_id,
                "METAFLOW_ORCHESTRATOR_LINKS": json.dumps(dict(self.links)),
                "METAFLOW_ORCHESTRATOR_OUTCOME": str(Path(self._scratch.name) / "outcome.json"),
            },
            self._unpacked(),
        )
