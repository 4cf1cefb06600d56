"""Turns a flow into a manifest, inside Metaflow's own command line. Imports Metaflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaflow_orchestration.compile.flow_process import watched
from metaflow_orchestration.compile.inputs.layout import package_of
from metaflow_orchestration.compile.reading.container_settings import read_remote_settings
from metaflow_orchestration.compile.reading.flow_file import check_one_flow
from metaflow_orchestration.compile.reading.included_files import without_uploads
from metaflow_orchestration.compile.reading.reader import read_graph
from metaflow_orchestration.compile.token_proof import make_proof
from metaflow_orchestration.compile.url_credentials import without_credentials
from metaflow_orchestration.documents.manifest import CodePackage, Command, Deployment, Manifest, Notifications
from metaflow_orchestration.exceptions import FlowCompileError, InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.compute import validate_compute
from metaflow_orchestration.graph.naming import check_name, project_name
from metaflow_orchestration.graph.validate import validate_graph

from .code_package import make_package
from .reachable import check_reachable


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """Options of ``create`` that end up in the manifest; see :class:`~.manifest.Deployment`."""

    tags: tuple[str, ...] = ()
    namespace: str | None = None
    max_workers: int | None = None
    workflow_timeout: int | None = None
    worker_pool: str | None = None
    is_paused_upon_creation: bool | None = None
    emit_events: bool = True
    emit_step_events: bool = False
    notifications: Notifications | None = None
    upload: bool = True
    """Whether the code package is saved; else its place is only computed, and nobody but this machine is asked."""
    project_root: str | None = None
    """The folder that the flow is started from and that is packaged; default: that of the flow file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """The name of a deployment and what its production token starts with."""

    name: str
    token_prefix: str
    is_project: bool


def resolve_name(flow_name: str, given: str | None) -> Name:
    """Return under which name a flow is deployed, with the rules of Metaflow's other deployers.

    :param flow_name: name of the flow.
    :param given: ``--name``.
    :raises InvalidOptionError: if the name is not allowed.
    """
    from metaflow import current

    refuse_name_of_project(flow_name, given)
    name = project_name(current.project_flow_name) if current.get("project_name") else given or flow_name
    check_name(name, flow_name)
    return named(name)


def refuse_name_of_project(flow_name: str, given: str | None) -> None:
    """Check that no name is given to a ``@project``, whose branch names it.

    :param flow_name: flow to name in an error.
    :param given: ``--name``.
    :raises InvalidOptionError: if there is one.
    """
    from metaflow import current

    if current.get("project_name") and given:
        raise InvalidOptionError("--name is not supported for @projects.", flow=flow_name, hint="Use --branch instead.")


def named(name: str) -> Name:
    """Return a name with what its production token starts with; of a ``@project`` all flows share one token.

    :param name: name of the deployment.
    """
    import base64
    from hashlib import sha1

    from metaflow import current

    project = current.get("project_name")
    if not project:
        return Name(name=name, token_prefix=name.lower(), is_project=False)
    branch = f"{project}.{current.branch_name}".encode()
    digest = base64.b32encode(sha1(branch, usedforsecurity=False).digest()).decode()[:16]
    return Name(name=name, token_prefix=f"mfprj-{digest}".lower(), is_project=True)


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
    code = _package(obj, options)
    command = _command(obj, deployment, code, runtime)
    return Manifest(
        graph=graph,
        deployment=deployment,
        code=code,
        command=command,
        inputs=_inputs(obj),
        remote=read_remote_settings(obj, graph, code, command.environment),
    )


def check_options(flow_name: str, options: DeployOptions) -> None:
    """Check the values of ``create`` options.

    :param flow_name: flow to name in an error.
    :param options: the options.
    :raises InvalidOptionError: naming the option.
    """
    from metaflow.exception import MetaflowException
    from metaflow.tagging_util import validate_tags

    if options.tags:
        try:
            validate_tags(options.tags)
        except MetaflowException as error:
            raise InvalidOptionError(f"--tag: {error}", flow=flow_name) from None
    check_project_root(options.project_root, flow_name)
    if options.emit_step_events and not options.emit_events:
        raise InvalidOptionError(
            "--emit-step-events contradicts --no-auto-emit-events.", flow=flow_name, hint="Remove one of them."
        )
    for option in ("max_workers", "workflow_timeout"):
        value = getattr(options, option)
        if value is not None and value < 1:
            raise InvalidOptionError(f"--{option.replace('_', '-')} is {value}; it must be at least 1.", flow=flow_name)


def _package(obj: Any, options: DeployOptions) -> CodePackage:
    flow_file = Path(sys.argv[0]).resolve()
    root = flow_file.parent if options.project_root is None else Path(options.project_root).resolve()
    obj.package = make_package(obj, root)
    try:
        if options.upload:
            check_reachable(obj.flow_datastore.TYPE, obj.flow.name)
            url, sha = obj.flow_datastore.save_data([obj.package.blob], len_hint=1)[0]
        else:
            url, sha = _future_place(obj)
    except OSError as error:
        raise FlowCompileError(
            f"the code package cannot be saved in {obj.flow_datastore.datastore_root} ({error.strerror}).",
            flow=obj.flow.name,
            hint="Check that the datastore exists and is writable, and that the disk is not full.",
        ) from error
    packaged = dict(obj.package.path_tuples())
    if not flow_file.is_file() or str(flow_file.relative_to(root)) not in packaged.values():
        raise FlowCompileError(
            f"its file {flow_file} is not in the code package any more.",
            flow=obj.flow.name,
            hint="Does the import of the flow move or delete files?",
        )
    watched.note_packaged(packaged)
    return CodePackage(
        url=str(Path(url).resolve()) if obj.flow_datastore.TYPE == "local" else url,
        sha=sha,
        metadata=obj.package.package_metadata,
        datastore=obj.flow_datastore.TYPE,
        flow_file=str(flow_file.relative_to(root)),
        flow_dir=str(root),
        package=package_of(flow_file, root),
    )


def check_project_root(root: str | None, flow_name: str) -> None:
    """Check the folder that a flow is started from.

    :param root: ``--project-root``.
    :param flow_name: flow to name in an error.
    :raises InvalidOptionError: if it is no folder, or the flow file lies elsewhere.
    """
    if root is None:
        return
    if not Path(root).is_dir():
        raise InvalidOptionError(f"--project-root: there is no folder {root}.", flow=flow_name)
    flow_file = Path(sys.argv[0]).resolve()
    if not flow_file.is_relative_to(Path(root).resolve()):
        raise InvalidOptionError(
            f"--project-root: the flow file {flow_file} does not lie below {root}.",
            flow=flow_name,
            hint="Name the folder that the flow is started from, e.g. the root of its repository.",
        )


def _future_place(obj: Any) -> tuple[str, str]:
    """Return where the code package would be saved (``metaflow.datastore.content_addressed_store``)."""
    from hashlib import sha1

    sha = sha1(obj.package.blob, usedforsecurity=False).hexdigest()
    store = obj.flow_datastore.ca_store
    storage = obj.flow_datastore._storage_impl
    return storage.full_uri(storage.path_join(store._prefix, sha[:2], sha)), sha


def _command(obj: Any, deployment: Deployment, code: CodePackage, runtime: str) -> Command:
    from metaflow.decorators import flow_decorators

    root = obj.flow_datastore.datastore_root
    if code.datastore == "local":
        root = str(Path(root).resolve())
    flow_options: dict[str, Any] = {}
    for deco in flow_decorators(obj.flow):
        flow_options.update(deco.get_top_level_options())
    top_level = (
        *_options(flow_options),
        "--quiet",
        f"--metadata={obj.metadata.TYPE}",
        f"--environment={obj.environment.TYPE}",
        f"--datastore={code.datastore}",
        f"--datastore-root={root}",
        f"--event-logger={obj.event_logger.TYPE}",
        f"--monitor={obj.monitor.TYPE}",
        "--no-pylint",
        "--with=orchestrator_internal",
    )
    return Command(
        top_level=top_level,
        environment=_environment(obj, deployment, code, root, runtime),
        datastore_root=root,
        metadata=obj.metadata.TYPE,
    )


def _options(values: dict[str, Any]) -> Iterator[str]:
    """Render options as arguments; ``metaflow.util.dict_to_cli_options`` would quote them for a shell."""
    for name, value in values.items():
        for item in value if isinstance(value, (list, tuple, set)) else [value]:
            if item is True:
                yield f"--{name.replace('_', '-')}"
            elif item is not False and item is not None:
                yield f"--{name.replace('_', '-')}={item}"


def _environment(obj: Any, deployment: Deployment, code: CodePackage, root: str, runtime: str) -> dict[str, str]:
    from metaflow.flowspec import FlowStateItems

    info = dict(obj.environment.get_environment_info())
    # Metaflow puts the address of the Git repository in, which on many CI systems holds a token.
    info = {name: without_credentials(value) if isinstance(value, str) else value for name, value in info.items()}
    info["flow_name"] = obj.flow.name
    info["production_token"] = deployment.production_token
    environment = {
        "METAFLOW_CODE_URL": code.url,
        "METAFLOW_CODE_SHA": code.sha,
        "METAFLOW_CODE_DS": code.datastore,
        "METAFLOW_CODE_METADATA": code.metadata,
        "METAFLOW_USER": deployment.owner,
        "METAFLOW_OWNER": deployment.owner,
        "METAFLOW_PRODUCTION_TOKEN": deployment.production_token,
        "METAFLOW_FLOW_NAME": obj.flow.name,
        "METAFLOW_FLOW_FILENAME": code.flow_file,
        "METAFLOW_VERSION": json.dumps(info, sort_keys=True),
        "METAFLOW_DEFAULT_DATASTORE": code.datastore,
        "METAFLOW_DEFAULT_METADATA": obj.metadata.TYPE,
        **obj.metadata.get_runtime_environment(runtime),
    }
    if code.datastore == "local" or obj.metadata.TYPE == "local":
        # The client and local metadata find the runs by the parent of the datastore's folder.
        environment["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = _local_root(root, code)
    configs = obj.flow._flow_state[FlowStateItems.CONFIGS]
    if configs:
        keys = {name: f"kv.{name}" for name in sorted(configs)}
        environment["METAFLOW_FLOW_CONFIG_VALUE"] = json.dumps(keys)
    return {name: str(value) for name, value in environment.items() if value is not None}


def _local_root(root: str, code: CodePackage) -> str:
    from metaflow.plugins.datastores.local_storage import LocalStorage

    if code.datastore != "local":
        root = str(LocalStorage.get_datastore_root_from_config(lambda *_, **__: None) or Path.cwd())
    return str(Path(root).resolve().parent)


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
