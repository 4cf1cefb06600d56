"""What a manifest holds for containers. Read when a step runs in one: parsing a DAG file pays nothing for it."""

from __future__ import annotations

from typing import Any

import msgspec

from metaflow_orchestration.documents.structs import built

from .manifest import Manifest


class ContainerSetup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the containers of one step come to their interpreter, where that is not the image's ``python``.

    :param executable: the interpreter, as a word or words of bash.
    :param bootstrap: script of bash before it, by which Metaflow fetches the code package and sets up a conda, PyPI or
        uv environment.
    """

    executable: str
    bootstrap: str = ""


@built
class RemoteSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What containers need to know of a deployment.

    :param environment: the variables of a task in a container; no secrets.
    :param compute_defaults: attributes that a bare ``@kubernetes`` or ``@batch`` would have, by its name.
    :param pod_secrets: names of Kubernetes secrets of every pod, from ``METAFLOW_KUBERNETES_SECRETS``.
    :param pod_arguments: arguments of the pod operator, from ``METAFLOW_AIRFLOW_KUBERNETES_…``.
    :param batch_emit_tags: whether jobs get tags that name flow, run and step (``METAFLOW_BATCH_EMIT_TAGS``).
    :param containers: set-up of the containers of steps, by step.
    """

    environment: dict[str, str] = {}
    compute_defaults: dict[str, dict[str, Any]] = {}
    pod_secrets: tuple[str, ...] = ()
    pod_arguments: dict[str, Any] = {}
    batch_emit_tags: bool = False
    containers: dict[str, ContainerSetup] = {}


def remote_settings(manifest: Manifest) -> RemoteSettings:
    """Return what a manifest holds for containers; empty for a flow on the local datastore.

    :param manifest: the compiled flow.
    """
    return msgspec.convert(manifest.remote, RemoteSettings)
