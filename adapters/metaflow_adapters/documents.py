"""The documents that say what a container runs, for orchestrators that fill in only its place in the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metaflow_orchestration.containers.options import task_limit_of
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph, ParameterType, Step
from metaflow_orchestration.run.commands import file_facts

from .sources import sources_of, walked_steps

_CLICK_TYPES = {ParameterType.JSON: "JSON", ParameterType.FILE: "FilePath"}


def described_parameters(graph: FlowGraph) -> dict[str, dict[str, Any]]:
    """Return what Metaflow's client needs to make a flow file of a deployment, by parameter.

    :param graph: the flow.
    """
    return {
        one.name: {
            "python_var_name": one.variable,
            "name": one.name,
            "type": _CLICK_TYPES.get(one.type, one.type.value),
            "description": one.help or None,
            "is_required": one.required,
            **({"is_text": one.is_text, "encoding": one.encoding or "utf-8"} if one.type is ParameterType.FILE else {}),
        }
        for one in graph.parameters
    }


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


def flow_document(manifest: Manifest) -> dict[str, Any]:
    """Return what all steps of a flow share.

    :param manifest: the compiled flow.
    """
    code, tags = manifest.code, [f"--tag={tag}" for tag in manifest.deployment.tags]
    namespace = manifest.deployment.namespace
    return {
        "flow_name": manifest.graph.name,
        "flow_file": code.flow_file,
        **({"package": code.package} if code.package else {}),
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


def step_document(
    manifest: Manifest,
    step: Step,
    *,
    environment: Mapping[str, str],
    outputs: Mapping[str, str],
    retries: int,
    triggers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a container needs to know of its step.

    :param manifest: the compiled flow.
    :param step: the step.
    :param environment: variables of the platform.
    :param outputs: file for each fact that the orchestrator must learn.
    :param retries: how often the orchestrator tries a task again.
    :param triggers: type of each event that may have started the run, by the parameter that takes its payload.
    """
    document: dict[str, Any] = {
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
