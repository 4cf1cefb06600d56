"""The documents that say what a container runs, for orchestrators that fill in only its place in the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

from metaflow_orchestration.containers.options import task_limit_of
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest, Notifications
from metaflow_orchestration.documents.task import FileFacts
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph, Parameter, ParameterType, Step
from metaflow_orchestration.run.commands import file_facts

from .sources import Sources, WalkedStep, sources_of, walked_steps

_CLICK_TYPES = {ParameterType.JSON: "JSON", ParameterType.FILE: "FilePath"}


class _DescribedParameter(TypedDict):
    python_var_name: str
    name: str
    type: str
    description: str | None
    is_required: bool


class DescribedParameter(_DescribedParameter, total=False):
    """What Metaflow's client needs to know of a parameter to make a flow file of a deployment, in its own words.

    :param is_text: of a file parameter: whether it holds text.
    :param encoding: of a file parameter: encoding of the text.
    """

    is_text: bool
    encoding: str


class _FlowDocument(TypedDict):
    flow_name: str
    flow_file: str
    datastore: str
    datastore_root: str
    top_level: list[str]
    step_options: list[str]
    env: dict[str, str]


class FlowDocument(_FlowDocument, total=False):
    """What all steps of a flow share.

    :param flow_name: name of the flow.
    :param flow_file: its file in the code package.
    :param package: package of the flow file, as ``python -m`` knows it; left out for a script.
    :param datastore: kind of the datastore.
    :param datastore_root: its root.
    :param top_level: arguments before Metaflow's command.
    :param step_options: arguments of each step.
    :param env: variables of the tasks.
    """

    package: str


_StepDocument = TypedDict(
    "_StepDocument",
    {
        "step": str,
        "with": list[str],
        "step_env": dict[str, str],
        "retries": int,
        "error_retries": int,
        "sources": Sources | None,
        "outputs": dict[str, str],
    },
)


class StepDocument(_StepDocument, total=False):
    """What a container needs to know of its step.

    :param step: name of the step.
    :param with: arguments ``--with=…``.
    :param step_env: variables of the step.
    :param retries: how often the orchestrator tries a task again.
    :param error_retries: how many of these tries are those of ``@catch``.
    :param sources: where its inputs come from; None for the start step.
    :param outputs: file for each fact that the orchestrator must learn.
    :param steps: the steps through which its inputs are looked for.
    :param triggers: type of each event that may have started the run, by the parameter that takes its payload.
    :param is_gang: whether it is a ``@parallel`` step.
    :param time_limit: after how many seconds a task is killed.
    :param init_options: of the start step: arguments of Metaflow's ``init``.
    :param parameters: of the start step: names of the parameters.
    :param nullable: of the start step: names of those without a default value.
    :param files: of the start step: the file parameters, by name.
    """

    steps: dict[str, WalkedStep]
    triggers: dict[str, str]
    is_gang: bool
    time_limit: int
    init_options: list[str]
    parameters: list[str]
    nullable: list[str]
    files: dict[str, FileFacts]


class Aside(TypedDict, total=False):
    """What a container does that runs no step (``side_task.py`` of the extension).

    :param function: runs this function of an ``@exit_hook``.
    :param error_script: runs this script, which finds the failures in a variable.
    :param heartbeat: keeps the run alive for Metaflow's service.
    :param succeeded: whether the run has succeeded; else it has failed.
    :param deployment: name of the deployment, to tell.
    :param orchestrator: what runs it, to tell.
    :param alert_source: id of incident.io's source of alerts.
    :param metadata: facts for incident.io.
    """

    function: str
    error_script: str
    heartbeat: bool
    succeeded: bool
    deployment: str
    orchestrator: str
    alert_source: str | None
    metadata: dict[str, str]


def notice(deployment: str, notifications: Notifications, *, succeeded: bool) -> Aside:
    """Return what a container needs to tell endpoints how a run has ended.

    :param deployment: name of the deployment.
    :param notifications: recipients of notifications.
    :param succeeded: whether it has succeeded.
    """
    return {
        "succeeded": succeeded,
        "deployment": deployment,
        "alert_source": notifications.incident_io_source,
        "metadata": dict(notifications.incident_io_metadata),
    }


def described_parameters(graph: FlowGraph) -> dict[str, DescribedParameter]:
    """Return what Metaflow's client needs to make a flow file of a deployment, by parameter.

    :param graph: the flow.
    """
    return {one.name: _described(one) for one in graph.parameters}


def _described(parameter: Parameter) -> DescribedParameter:
    found: DescribedParameter = {
        "python_var_name": parameter.variable,
        "name": parameter.name,
        "type": _CLICK_TYPES.get(parameter.type, parameter.type.value),
        "description": parameter.help or None,
        "is_required": parameter.required,
    }
    if parameter.type is ParameterType.FILE:
        found["is_text"], found["encoding"] = parameter.is_text, parameter.encoding or "utf-8"
    return found


def origin_text(run_id: str, rerun: Iterable[str], given: Iterable[str], flow: str) -> str:
    """Return the text by which a resumed run names the run that it resumes; ``placed_task.py`` reads it.

    :param run_id: Metaflow run id of the other run.
    :param rerun: steps that run again.
    :param given: names of the parameters that the resumed run was given itself.
    :param flow: name of the flow, for errors.
    :raises InvalidOptionError: if a name cannot be distinguished from its neighbours.
    """
    words = [run_id, *rerun, *(f"--{name}" for name in given)]
    for word in words:
        if ":" in word:
            raise InvalidOptionError(
                f"the name {word!r} holds a colon, so that no run can be resumed by it.", flow=flow
            )
    return ":".join(words)


def flow_document(manifest: Manifest) -> FlowDocument:
    """Return what all steps of a flow share.

    :param manifest: the compiled flow.
    """
    code, tags = manifest.code, [f"--tag={tag}" for tag in manifest.deployment.tags]
    namespace = manifest.deployment.namespace
    document: FlowDocument = {
        "flow_name": manifest.graph.name,
        "flow_file": code.flow_file,
        "datastore": code.datastore,
        "datastore_root": manifest.command.datastore_root,
        "top_level": list(manifest.command.top_level),
        "step_options": [*tags, *([f"--namespace={namespace}"] if namespace is not None else [])],
        "env": {
            **remote_settings(manifest).environment,
            "METAFLOW_CODE_URL": code.url,
            "METAFLOW_CODE_SHA": code.sha,
            "METAFLOW_CODE_METADATA": code.metadata,
        },
    }
    if code.package:
        document["package"] = code.package
    return document


def step_document(
    manifest: Manifest,
    step: Step,
    *,
    environment: Mapping[str, str],
    outputs: Mapping[str, str],
    retries: int,
    triggers: Mapping[str, str] | None = None,
) -> StepDocument:
    """Return what a container needs to know of its step.

    :param manifest: the compiled flow.
    :param step: the step.
    :param environment: variables of the platform.
    :param outputs: file for each fact that the orchestrator must learn.
    :param retries: how often the orchestrator tries a task again.
    :param triggers: type of each event that may have started the run, by the parameter that takes its payload.
    """
    document: StepDocument = {
        "step": step.name,
        "with": [f"--with={spec}" for spec in step.with_specs],
        "step_env": {**dict(step.environment), **environment},
        "retries": retries,
        "error_retries": step.retry.error,
        "sources": sources_of(manifest.graph, step),
        "outputs": dict(outputs),
    }
    walked = walked_steps(manifest.graph, step)
    if walked:
        document["steps"] = walked
    if triggers:
        document["triggers"] = dict(triggers)
    if step.gang:
        document["is_gang"] = True
    limit = task_limit_of(step)
    if limit is not None:
        document["time_limit"] = limit
    if step.name == manifest.graph.start:
        parameters = manifest.graph.parameters
        document["init_options"] = [f"--tag={tag}" for tag in manifest.deployment.tags]
        document["parameters"] = [one.name for one in parameters]
        document["nullable"] = [one.name for one in parameters if one.default is None]
        files = file_facts(manifest.graph)
        if files:
            document["files"] = files
    return document
