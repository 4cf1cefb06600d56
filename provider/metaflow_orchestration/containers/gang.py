"""The nodes of a ``@parallel`` step on Kubernetes: an Indexed Job, and a headless service that gives them names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .objects import KubernetesObject

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
JOB_LABEL = "batch.kubernetes.io/job-name"
_KEEP_SECONDS = 7 * 24 * 60 * 60
"""How long a finished job stays whose worker died; Metaflow's ``KUBERNETES_JOB_TTL_SECONDS_AFTER_FINISHED``."""


def gang_environment(name: str, port: Any) -> dict[str, str]:
    """Return the variables by which the nodes find the control node.

    :param name: name of job and service.
    :param port: ``port`` of ``@kubernetes``.
    """
    environment = {"MF_MASTER_ADDR": f"{name}-0.{name}"}
    if port:
        environment["MF_MASTER_PORT"] = str(port)
    return environment


def make_job(pod: Mapping[str, Any], nodes: int) -> KubernetesObject:
    """Return a job whose pods start, and fail, together.

    :param pod: the pod of each node; the job gets its name.
    :param nodes: how many.
    """
    metadata, spec = dict(pod["metadata"]), dict(pod["spec"])
    name = metadata.pop("name")
    # Names each pod `<job>-<index>.<service>`.
    spec["subdomain"] = name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            # Airflow retries the gang as a whole.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEEP_SECONDS,
            "template": {"metadata": metadata, "spec": spec},
        },
    }


def make_service(name: str, job_uid: str) -> KubernetesObject:
    """Return the service, which Kubernetes deletes together with the job.

    :param name: name of the job.
    :param job_uid: its uid.
    """
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job_uid}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "selector": {JOB_LABEL: name},
            # A node must resolve before it is ready: the others wait for its name.
            "publishNotReadyAddresses": True,
        },
    }
