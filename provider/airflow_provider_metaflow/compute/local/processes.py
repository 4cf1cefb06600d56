"""Runs Metaflow tasks as processes of the worker."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from airflow_provider_metaflow.compute.error_text import ErrorText
from metaflow_orchestration.cache import Cache
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.documents.task import Inherited, OutcomeDocument
from metaflow_orchestration.exceptions import StepFailedError
from metaflow_orchestration.graph.identity import PARAMETERS_STEP, PARAMETERS_TASK
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import (
    StepCall,
    init_request,
    resumed_variables,
    step_arguments,
)

from .answers import (
    DoneAnswer,
    FindTasksAnswer,
    HasRunAnswer,
    ProbeAnswer,
    RecordAnswer,
    RunAnswer,
    SaveAnswer,
    check_answer,
    time_limit,
)
from .code import unpacked
from .environments import shared_environment, task_environment, worker_environment
from .module_process import ModuleProcess
from .request import (
    FindTasksRequest,
    FlowOfRequest,
    HasRunRequest,
    LoadRecordRequest,
    ProbeRequest,
    Request,
    RunRequest,
    SaveRecordRequest,
    SaveRequest,
    encoded,
)
from .runner import LineWriter, Runner
from .runner_process import RunnerSettings
from .session import Session

_Answer = TypeVar("_Answer", bound=msgspec.Struct)


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
    :param on_line: gets each line of output.
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
    _session: Session = field(default_factory=Session)
    _root: Path | None = None
    _kept: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _scratch: Path | None = None
    _module: ModuleProcess = field(default_factory=ModuleProcess)

    def close(self) -> None:
        """Kill a task that still runs and hang up."""
        self._module.kill()
        self._session.close()
        if self._scratch is not None:
            # Left there if the runner was killed.
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        self._root = None
        self._kept.close()

    def __enter__(self) -> LocalCompute:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, call: StepCall, parameters: Mapping[str, str] | None = None) -> OutcomeDocument:
        """Run one task and return its outcome document.

        :param call: which task.
        :param parameters: for the start step, the parameters of the run.
        :raises StepFailedError: if it failed.
        """
        request = RunRequest(
            step=call.step.name,
            run_id=call.run_id,
            task_id=call.task_id,
            attempt=call.attempt,
            arguments=tuple(step_arguments(self.manifest, call)),
            time_limit=time_limit(call),
            init=msgspec.UNSET
            if parameters is None
            else init_request(self.manifest, call.run_id, parameters, self.inherited),
        )
        errors = ErrorText()

        def on_line(stream: str, text: str) -> None:
            errors.feed(stream, text)
            self.on_line(stream, text)

        answer = self._call(request, RunAnswer, self._environment(call), on_line)
        return check_answer(self.manifest.graph.name, call, answer, errors.message)

    def probe(
        self, step: str, run_id: str, task_ids: Sequence[str], *, min_attempt: int = 0, stop: bool = False
    ) -> list[OutcomeDocument | None]:
        """Return the outcome documents of tasks that have finished, None for others.

        :param step: the step.
        :param run_id: Metaflow run id.
        :param task_ids: the tasks.
        :param min_attempt: results of earlier attempts do not count.
        :param stop: end the list at the first task that has not finished.
        """
        asked = ProbeRequest(
            step=step, run_id=run_id, task_ids=tuple(task_ids), min_attempt=min_attempt, stop_at_missing=stop
        )
        return self._ask(asked, ProbeAnswer).outcomes

    def find_tasks(self, step: Step, run_id: str, resumed: str) -> dict[str, OutcomeDocument] | None:
        """Return the outcome documents of a step's finished tasks by the ids that this package would give them.

        None if the run was made by this package, whose tasks are found by their ids.

        :param step: the step.
        :param run_id: Metaflow run id of a run that any deployer may have made.
        :param resumed: Metaflow run id of the run that resumes it; what is found is kept beside it.
        """
        asked = FindTasksRequest(
            step=step.name, run_id=run_id, resumed=resumed, depth=len(step.foreach_path), gang=step.gang
        )
        return self._ask(asked, FindTasksAnswer).outcomes

    def save(self, data: bytes) -> str:
        """Put bytes into the flow's datastore, by their content; return their URL.

        :param data: the bytes.
        """
        return self._ask(SaveRequest(data=base64.b64encode(data).decode()), SaveAnswer).url

    def has_run(self, run_id: str) -> bool:
        """Return whether a run with its parameters is in the datastore.

        :param run_id: Metaflow run id.
        """
        asked = HasRunRequest(step=PARAMETERS_STEP, run_id=run_id, task_id=PARAMETERS_TASK)
        return self._ask(asked, HasRunAnswer).found

    def load_record(self, name: str) -> Any:
        """Return the record of a DAG run id from the datastore, None if there is none.

        :param name: name of the record.
        """
        return self._ask(LoadRecordRequest(name=name), RecordAnswer).record

    def save_record(self, name: str, record: Any) -> None:
        """Replace the record of a DAG run id in the datastore.

        :param name: name of the record.
        :param record: JSON types.
        """
        self._ask(SaveRecordRequest(name=name, record=record), DoneAnswer)

    def _ask(self, request: Request, answer: type[_Answer]) -> _Answer:
        return self._call(request, answer, self._shared_environment(), self.on_line)

    def _call(
        self, request: Request, answer: type[_Answer], environment: Mapping[str, str], on_line: LineWriter
    ) -> _Answer:
        flow = FlowOfRequest.of(self.manifest, self.code, self._unpacked(), environment)
        return self._runner(environment).call(encoded(flow, request), answer, on_line)

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
        status = self._module.run([self.python, "-m", module, *arguments], root, environment, self.on_line)
        if status != 0:
            raise StepFailedError(
                f"{' '.join([module, *arguments])} exited with {status}.", flow=self.manifest.graph.name
            )

    def _runner(self, environment: Mapping[str, str]) -> Runner:
        settings = RunnerSettings(
            python=self.python,
            root=self._unpacked(),
            base=worker_environment(self.manifest),
            environment=environment,
            warm=self.warm,
            idle_seconds=self.idle_seconds,
        )
        return self._session.runner(settings)

    def _unpacked(self) -> Path:
        if self._root is None:
            root = self.manifest.command.datastore_root
            self._root = self._kept.enter_context(
                unpacked(self.code, self.cache, root, worker_environment(self.manifest))
            )
        return self._root

    def _shared_environment(self) -> dict[str, str]:
        return shared_environment(self.manifest, self._unpacked())

    def _environment(self, call: StepCall) -> dict[str, str]:
        if self._scratch is None:
            # The runner makes it and removes it: it also outlives a worker that is killed.
            self._scratch = Path(tempfile.gettempdir()) / f"metaflow-task-{secrets.token_hex(16)}"
        own = {
            **(resumed_variables(call.run_id) if self.resumed else {}),
            "METAFLOW_TASK_ID": call.task_id,
            "METAFLOW_ORCHESTRATOR_LINKS": json.dumps(dict(self.links)),
            "METAFLOW_ORCHESTRATOR_OUTCOME": str(self._scratch / "outcome.json"),
        }
        return task_environment(
            self.manifest, self.code, call, root=self._unpacked(), python=self.python, variables=self.variables, own=own
        )
