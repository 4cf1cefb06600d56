"""What Metaflow's configuration ``ARGO_WORKFLOWS_…`` says of all pods of a deployment, put into its manifest."""

from __future__ import annotations

import msgspec

from metaflow_orchestration.containers.pod_fields import names_of
from metaflow_orchestration.documents.manifest import Manifest

_ERROR_SCRIPT = "argo_error_script"


def as_configured(manifest: Manifest) -> Manifest:
    """Return a manifest with the secrets that all pods on Argo get, and without the variables that are to be skipped.

    Imports Metaflow, whose configuration it reads: ``METAFLOW_ARGO_WORKFLOWS_KUBERNETES_SECRETS``,
    ``…_ENV_VARS_TO_SKIP`` and ``…_CAPTURE_ERROR_SCRIPT``.

    :param manifest: the compiled flow.
    """
    from metaflow import metaflow_config as config

    if not manifest.remote:
        return manifest
    replace, remote = msgspec.structs.replace, dict(manifest.remote)
    secrets = dict.fromkeys((*remote.get("pod_secrets", ()), *names_of(config.ARGO_WORKFLOWS_KUBERNETES_SECRETS)))
    if secrets:
        remote["pod_secrets"] = list(secrets)
    if config.ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT:
        remote[_ERROR_SCRIPT] = str(config.ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT)
    skipped = set(names_of(config.ARGO_WORKFLOWS_ENV_VARS_TO_SKIP))
    if not skipped:
        return replace(manifest, remote=remote)
    environment = remote.get("environment", {})
    remote["environment"] = {name: value for name, value in environment.items() if name not in skipped}
    steps = tuple(
        replace(step, environment=tuple(pair for pair in step.environment if pair[0] not in skipped))
        for step in manifest.graph.steps
    )
    return replace(manifest, remote=remote, graph=replace(manifest.graph, steps=steps))


def error_script(manifest: Manifest) -> str:
    """Return the script that is run when a run has failed, empty if there is none.

    :param manifest: the compiled flow.
    """
    return str(manifest.remote.get(_ERROR_SCRIPT, ""))
