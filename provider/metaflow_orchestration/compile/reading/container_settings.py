"""What containers need to know of a deployment, read inside Metaflow's own command line. Imports Metaflow."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from metaflow_orchestration.compile.url_credentials import has_credentials
from metaflow_orchestration.documents.container_settings import ContainerSetup, RemoteSettings, remote_settings
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.graph.compute import Compute, attributes_of, compute_of
from metaflow_orchestration.graph.model import FlowGraph

_CONFIGURED = (
    "ARGO_EVENTS_EVENT",
    "ARGO_EVENTS_EVENT_BUS",
    "ARGO_EVENTS_EVENT_SOURCE",
    "ARGO_EVENTS_SERVICE_ACCOUNT",
    "AWS_SECRETS_MANAGER_DEFAULT_REGION",
    "AZURE_KEY_VAULT_PREFIX",
    "AZURE_STORAGE_BLOB_SERVICE_ENDPOINT",
    "CARD_AZUREROOT",
    "CARD_GSROOT",
    "CARD_S3ROOT",
    "DATASTORE_SYSROOT_AZURE",
    "DATASTORE_SYSROOT_GS",
    "DATASTORE_SYSROOT_S3",
    "DATATOOLS_S3ROOT",
    "DEFAULT_AWS_CLIENT_PROVIDER",
    "DEFAULT_GCP_CLIENT_PROVIDER",
    "DEFAULT_SECRETS_BACKEND_TYPE",
    "GCP_SECRET_MANAGER_PREFIX",
    "KUBERNETES_FETCH_EC2_METADATA",
    "OTEL_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "S3_ENDPOINT_URL",
    "S3_SERVER_SIDE_ENCRYPTION",
)
"""Configuration that the compute layers of Metaflow hand on (``metaflow.plugins.kubernetes.kubernetes``)."""

_EXTRACT = ("TAR_OPTIONS", "tar ")
_VERIFY = (
    '{ [ \\"$(sha1sum < job.tar)\\" = \\"$METAFLOW_CODE_SHA  -\\" ] || '
    "{ echo 'The code package is not what was deployed; none of it was run.' >&2; exit 1; }; }"
)
"""In the words of Metaflow's commands: inside double quotes."""

_RENAMED = {
    "SERVICE_INTERNAL_URL": "METAFLOW_SERVICE_URL",
    "KUBERNETES_SANDBOX_INIT_SCRIPT": "METAFLOW_INIT_SCRIPT",
    "ARGO_EVENTS_INTERNAL_WEBHOOK_URL": "METAFLOW_ARGO_EVENTS_WEBHOOK_URL",
}
_HANDED_ON = ("METAFLOW_CONDA_", "METAFLOW_DEBUG_", "METAFLOW_SKIP_INSTALL_DEPENDENCIES")


def read_remote_settings(obj: Any, graph: FlowGraph, code: CodePackage, shared: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of a manifest that is for containers: :class:`RemoteSettings` as plain data.

    Headers of Metaflow's service, keys of event webhooks and URLs with credentials are secrets, and left out: they
    come to a task by a Kubernetes secret that ``METAFLOW_KUBERNETES_SECRETS`` or ``@kubernetes(secrets=…)`` names.

    :param obj: state of Metaflow's command line.
    :param graph: the flow.
    :param code: the code package; the local datastore serves no container.
    :param shared: the variables of tasks wherever they run.
    """
    if code.datastore == "local":
        return {}
    from metaflow.metaflow_config import BATCH_EMIT_TAGS

    settings = RemoteSettings(
        environment=dict(sorted({**dict(_configured()), **_without_local(shared)}.items())),
        compute_defaults=_compute_defaults(code.datastore),
        pod_secrets=_pod_secrets(),
        pod_arguments=_pod_arguments(),
        batch_emit_tags=bool(BATCH_EMIT_TAGS),
        containers=_containers(obj, graph, code),
    )
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    return plain


def secret_warnings(manifest: Manifest) -> Iterator[str]:
    """Yield warnings of secrets that tasks in containers will miss, for they go into no manifest.

    :param manifest: the compiled flow.
    """
    from metaflow.metaflow_config import SERVICE_HEADERS

    if manifest.remote:
        for name in sorted({name for name, value in _all_configured() if has_credentials(value)}):
            yield (
                f"flow {manifest.graph.name}: {name} is a URL with credentials, which are secret and in no manifest; "
                "containers must get the variable by a Kubernetes secret that METAFLOW_KUBERNETES_SECRETS names, or by "
                "their image."
            )
    remote = [step for step in manifest.graph.steps if compute_of(step) is not Compute.LOCAL]
    if manifest.command.metadata != "service" or not SERVICE_HEADERS:
        return
    blind = [
        step.name
        for step in remote
        if not remote_settings(manifest).pod_secrets and not (attributes_of(step, "kubernetes") or {}).get("secrets")
    ]
    if blind:
        yield (
            f"flow {manifest.graph.name}: the metadata service wants headers (METAFLOW_SERVICE_HEADERS), which are "
            f"secret and in no manifest; the containers of {', '.join(blind)} must get them by a Kubernetes secret "
            "that METAFLOW_KUBERNETES_SECRETS names, or by their image."
        )


def _configured() -> Iterator[tuple[str, str]]:
    """Return the variables that a manifest may hold."""
    return ((name, value) for name, value in _all_configured() if not has_credentials(value))


def _all_configured() -> Iterator[tuple[str, str]]:
    import os

    from metaflow import metaflow_config
    from metaflow.metaflow_config_funcs import config_values

    for name in _CONFIGURED:
        value = getattr(metaflow_config, name, None)
        if value not in (None, "", False):
            yield f"METAFLOW_{name}", str(value)
    for name, variable in _RENAMED.items():
        value = getattr(metaflow_config, name, None)
        if value:
            yield variable, str(value)
    for name, value in {**dict(config_values()), **os.environ}.items():
        if name.startswith(_HANDED_ON) and value is not None:
            yield name, str(value)


def _without_local(shared: Mapping[str, str]) -> dict[str, str]:
    """Leave out where the deploying machine keeps local metadata; a container has a place of its own."""
    return {name: value for name, value in shared.items() if name != "METAFLOW_DATASTORE_SYSROOT_LOCAL"}


def _containers(obj: Any, graph: FlowGraph, code: CodePackage) -> dict[str, ContainerSetup]:
    """Return the set-up of the containers of each step that needs another interpreter than the image's own."""
    found = {}
    for step in graph.steps:
        compute = compute_of(step)
        if compute is Compute.LOCAL:
            continue
        attributes = next(one.attributes for one in step.decorators if one.name == compute.value)
        executable = obj.environment.executable(step.name, attributes.get("executable"))
        commands = obj.environment.bootstrap_commands(step.name, code.datastore)
        if commands:
            package = obj.environment.get_package_commands(code.url, code.datastore, code.metadata)
            found[step.name] = ContainerSetup(executable=executable, bootstrap=bootstrap_script(package, commands))
        elif executable != "python":
            found[step.name] = ContainerSetup(executable=executable)
    return found


def bootstrap_script(package: Sequence[str], environment: Sequence[str]) -> str:
    """Return Metaflow's own commands as one script of bash.

    :param package: commands that fetch the code package.
    :param environment: commands that set up the environment.
    """
    from metaflow.mflog import BASH_FLUSH_LOGS

    # The task's log is saved by the task; each of Metaflow's saves before it starts an interpreter.
    package = ["flush_mflogs(){ true; }" if one == BASH_FLUSH_LOGS else one for one in package]
    # The package that was deployed, and no other, before any of it is used.
    extracts = (number for number, one in enumerate(package) if one.startswith(_EXTRACT))
    extract = next(extracts, len(package))
    package[extract:extract] = [_VERIFY]
    logs = "mkdir -p $PWD/.logs && export MFLOG_STDOUT=$PWD/.logs/mflog_stdout MFLOG_STDERR=$PWD/.logs/mflog_stderr"
    # Metaflow writes its commands for exactly this round of quoting.
    return shlex.split(f'bash -c "{" && ".join([logs, *package, *environment])}"')[-1]


def _compute_defaults(datastore: str) -> dict[str, dict[str, Any]]:
    """Return the attributes of a bare ``@kubernetes`` and ``@batch``, for steps that only the DAG file sends there."""
    from metaflow.plugins import STEP_DECORATORS

    from .reader import json_attributes

    found = {}
    for name in (Compute.KUBERNETES.value, Compute.BATCH.value):
        kind = next((one for one in STEP_DECORATORS if one.name == name), None)
        if kind is None or (name == "batch" and datastore != "s3"):
            continue
        decorator = kind()
        decorator.external_init()
        found[name] = json_attributes(decorator)
    return found


def _pod_secrets() -> tuple[str, ...]:
    """Return the names of the Kubernetes secrets that all pods get."""
    from metaflow.metaflow_config import KUBERNETES_SECRETS

    return tuple(name for name in KUBERNETES_SECRETS.split(",") if name)


def _pod_arguments() -> dict[str, Any]:
    """Return what Metaflow's configuration says of Airflow's way to Kubernetes, as arguments of its pod operator."""
    from metaflow import metaflow_config

    found = {
        "kubernetes_conn_id": metaflow_config.AIRFLOW_KUBERNETES_CONN_ID,
        "config_file": metaflow_config.AIRFLOW_KUBERNETES_KUBECONFIG_FILE,
        "cluster_context": metaflow_config.AIRFLOW_KUBERNETES_KUBECONFIG_CONTEXT,
        "startup_timeout_seconds": int(metaflow_config.AIRFLOW_KUBERNETES_STARTUP_TIMEOUT_SECONDS),
    }
    return {name: value for name, value in found.items() if value}
