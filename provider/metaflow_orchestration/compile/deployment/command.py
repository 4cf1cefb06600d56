"""The command line and the environment of the steps of a deployment. Imports Metaflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaflow_orchestration.compile.url_credentials import without_credentials
from metaflow_orchestration.documents.manifest import CodePackage, Command, Deployment


def make_command(obj: Any, deployment: Deployment, code: CodePackage, runtime: str) -> Command:
    """Return the command line and the environment of a deployment's steps.

    :param obj: state of Metaflow's command line.
    :param deployment: name, owner and token.
    :param code: where the code package is.
    :param runtime: Metaflow's name of the orchestrator.
    """
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
