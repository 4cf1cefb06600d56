"""Turns a flow into a manifest, inside Metaflow's own command line. Imports Metaflow."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from metaflow_orchestration.compile.reading.container_settings import read_remote_settings
from metaflow_orchestration.compile.reading.flow_file import check_one_flow
from metaflow_orchestration.compile.reading.included_files import without_uploads
from metaflow_orchestration.compile.reading.reader import read_graph
from metaflow_orchestration.compile.token_proof import make_proof
from metaflow_orchestration.documents.manifest import Deployment, Manifest
from metaflow_orchestration.exceptions import UnsupportedFeatureError
from metaflow_orchestration.graph.compute import validate_compute
from metaflow_orchestration.graph.validate import validate_graph

from .code_package import save_package
from .command import make_command
from .names import Name
from .options import DeployOptions, check_options


def compile_manifest(obj: Any, name: Name, token: str, options: DeployOptions, *, runtime: str = "airflow") -> Manifest:
    """Compile the flow of a Metaflow command line.

    :param obj: state of Metaflow's command line (``click`` context object).
    :param name: name of the deployment.
    :param token: production token; empty for a run that is not deployed.
    :param options: options of ``create``.
    :param runtime: Metaflow's name of the orchestrator.
    :raises MetaflowProviderError: if the flow cannot be deployed.
    """
    from metaflow.util import get_username

    check_options(obj.flow.name, options)
    check_one_flow(obj.flow, Path(sys.argv[0]))
    obj.graph = obj.flow._graph
    with nullcontext() if options.upload else without_uploads():
        graph = read_graph(obj.flow, obj.graph)
    validate_graph(graph)
    validate_compute(graph, obj.environment.TYPE)
    if runtime == "airflow" and graph.trigger_reset is not None:
        raise UnsupportedFeatureError(
            "its trigger has the option 'reset_at', for which Airflow's assets have no counterpart.",
            flow=graph.name,
            hint="Remove the option; events are kept until all that the flow waits for have come.",
        )
    deployment = Deployment(
        name=name.name,
        owner=get_username(),
        production_token=token,
        token_proof=make_proof(token, name.name) if runtime == "airflow" and token else "",
        namespace=options.namespace,
        tags=options.tags,
        max_workers=options.max_workers,
        workflow_timeout=options.workflow_timeout,
        worker_pool=options.worker_pool,
        is_paused_upon_creation=options.is_paused_upon_creation,
        emit_events=options.emit_events,
        emit_step_events=options.emit_step_events,
        notifications=options.notifications,
    )
    code = save_package(obj, options)
    command = make_command(obj, deployment, code, runtime)
    return Manifest(
        graph=graph,
        deployment=deployment,
        code=code,
        command=command,
        inputs=_inputs(obj),
        remote=read_remote_settings(obj, graph, code, command.environment),
    )


def _inputs(obj: Any) -> tuple[tuple[str, str], ...]:
    """Return the files that the flow reads by default, with hashes, so that a change recompiles it.

    They are those of configs, and those of ``IncludeFile``, whose default Metaflow wraps.
    """
    import hashlib

    from metaflow import IncludeFile

    found: dict[str, str] = {}
    for _, parameter in obj.flow._get_parameters():
        is_included = isinstance(parameter, IncludeFile)
        default = parameter.kwargs.get("default") if is_included or parameter.IS_CONFIG_PARAMETER else None
        if is_included:
            default = getattr(default, "print_representation", None)
        path = Path(default).resolve() if isinstance(default, (str, Path)) else None
        if path is not None and path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return tuple(sorted(found.items()))
