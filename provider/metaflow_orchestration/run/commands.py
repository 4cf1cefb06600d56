"""Argument lists of Metaflow's ``init`` and ``step`` commands; the one place that all targets share.

Values are list elements, never parts of a shell string, so nothing in them can be expanded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.documents.task import FileFacts, Inherited, InitRequest
from metaflow_orchestration.graph.identity import PARAMETERS_STEP, PARAMETERS_TASK
from metaflow_orchestration.graph.model import FlowGraph, ParameterType, Step

NO_RETRY = 202
"""Exit status by which a Metaflow task says that another attempt is of no use (``METAFLOW_EXIT_DISALLOW_RETRY``)."""


class StepCall(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two tasks of the same flow.

    :param step: the step to run.
    :param run_id: Metaflow run id.
    :param task_id: Metaflow task id.
    :param attempt: 0-based attempt.
    :param max_user_retries: see :class:`~metaflow_orchestration.graph.identity.Attempt`.
    :param inputs: input paths ``run/step/task`` in the order in which a join sees them.
    :param split_index: index in the innermost foreach, for every step of its body.
    :param ubf_context: ``ubf_control`` for the control task of a gang.
    :param clone_of: ``run/step/task`` of a finished task whose result is reused; no user code runs.
    :param origin_run: run id of the run that this one resumes, for ``current.origin_run_id`` and the client's
        ``origin_pathspec``.
    """

    step: Step
    run_id: str
    task_id: str
    attempt: int
    max_user_retries: int
    inputs: tuple[str, ...]
    split_index: int | None = None
    ubf_context: str | None = None
    clone_of: str | None = None
    origin_run: str | None = None


def init_arguments(manifest: Manifest, run_id: str, parameters: Mapping[str, str]) -> list[str]:
    """Return the arguments that register a run and store its parameters.

    :param manifest: the compiled flow.
    :param run_id: Metaflow run id.
    :param parameters: values by parameter name, in the text form of Metaflow's command line.
    """
    return [
        *manifest.command.top_level,
        "init",
        f"--run-id={run_id}",
        f"--task-id={PARAMETERS_TASK}",
        *_tags(manifest),
        *(f"--{name}={value}" for name, value in parameters.items()),
    ]


def init_request(
    manifest: Manifest, run_id: str, parameters: Mapping[str, str], inherited: Inherited | None = None
) -> InitRequest:
    """Return what the process that runs ``init`` must know: the task, the arguments, and which of them are files.

    Metaflow would take the value of a file parameter for a path; ``file_parameters.py`` of the extension checks it
    where ``init`` runs.

    :param manifest: the compiled flow.
    :param run_id: Metaflow run id.
    :param parameters: see :func:`init_arguments`.
    :param inherited: of a resumed run: where its other parameters come from.
    """
    return InitRequest(
        task_id=PARAMETERS_TASK,
        arguments=tuple(init_arguments(manifest, run_id, parameters)),
        inherit=inherited,
        files=file_facts(manifest.graph),
    )


def file_facts(graph: FlowGraph) -> dict[str, FileFacts]:
    """Return how the values of file parameters are checked and stored, by parameter.

    :param graph: the flow.
    """
    return {
        one.name: {"default": one.default, "is_text": one.is_text, "encoding": one.encoding}
        for one in graph.parameters
        if one.type is ParameterType.FILE
    }


def step_arguments(manifest: Manifest, call: StepCall) -> list[str]:
    """Return the arguments that run one task.

    :param manifest: the compiled flow.
    :param call: which task.
    """
    return [*shared_arguments(manifest, call), f"--input-paths={join_paths(call.inputs)}", *own_arguments(call)]


def shared_arguments(manifest: Manifest, call: StepCall) -> list[str]:
    """Return the arguments that the tasks of one step, run and attempt share.

    :param manifest: the compiled flow.
    :param call: one of the tasks.
    """
    arguments = [
        *manifest.command.top_level,
        *(f"--with={spec}" for spec in call.step.with_specs),
        "step",
        call.step.name,
        f"--run-id={call.run_id}",
        f"--retry-count={call.attempt}",
        f"--max-user-code-retries={call.max_user_retries}",
        *([f"--clone-run-id={call.origin_run}"] if call.origin_run is not None else []),
        *_tags(manifest),
    ]
    if manifest.deployment.namespace is not None:
        arguments.append(f"--namespace={manifest.deployment.namespace}")
    return arguments


def own_arguments(call: StepCall) -> list[str]:
    """Return the arguments that only one task of a step has, without its input paths.

    :param call: the task.
    """
    arguments = [f"--task-id={call.task_id}"]
    if call.clone_of is not None:
        return [*arguments, f"--clone-only={call.clone_of}"]
    if call.split_index is not None:
        arguments.append(f"--split-index={call.split_index}")
    if call.ubf_context is not None:
        arguments.append(f"--ubf-context={call.ubf_context}")
    return arguments


def task_variables(code: CodePackage, call: StepCall) -> dict[str, str]:
    """Return the variables that name a task, as Metaflow's own compute layers set them.

    :param code: the code package that the run uses.
    :param call: the task.
    """
    return {
        "METAFLOW_CODE_URL": code.url,
        "METAFLOW_CODE_SHA": code.sha,
        "METAFLOW_CODE_METADATA": code.metadata,
        "METAFLOW_RUN_ID": call.run_id,
        "METAFLOW_STEP_NAME": call.step.name,
        "METAFLOW_RETRY_COUNT": str(call.attempt),
    }


def resumed_variables(run_id: str) -> dict[str, str]:
    """Return the variable by which the steps of a resumed run see its own parameters, behind tasks that saw others.

    It is read by ``resumed_run.py`` of the extension.

    :param run_id: Metaflow run id.
    """
    return {"METAFLOW_ORCHESTRATOR_PARAMETERS_TASK": parameters_path(run_id)}


def parameters_path(run_id: str) -> str:
    """Return the input path of the start step.

    :param run_id: Metaflow run id.
    """
    return f"{run_id}/{PARAMETERS_STEP}/{PARAMETERS_TASK}"


def join_paths(paths: Iterable[str]) -> str:
    """Join input paths in the plain form of ``metaflow.util.decompress_list``.

    :param paths: input paths; our ids contain none of its separators.
    """
    return ",".join(paths)


def _tags(manifest: Manifest) -> list[str]:
    return [f"--tag={tag}" for tag in manifest.deployment.tags]
