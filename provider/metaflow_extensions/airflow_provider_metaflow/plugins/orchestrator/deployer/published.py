"""What this process and machine know of the newest deployment of a name, which Airflow may not have parsed yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.deploy import dag_file
from airflow_provider_metaflow.rest import dags
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.deployment import DeployedDag, open_deployment, wait_for_deployment
from metaflow_orchestration.compile.configuration import metaflow_value
from metaflow_orchestration.exceptions import MetaflowProviderError

WAIT_SECONDS = 300.0
"""How long a deployment is waited for that lies in the DAG folder; as `trigger` does."""

_FILES: dict[tuple[str, str], str] = {}
"""DAG files that this process has written or removed, by address of Airflow and name of the deployment."""

_DELETED: set[tuple[str, str]] = set()


def note_created(name: str, file: str | None) -> None:
    """Note that this process has deployed something.

    :param name: name of the deployment.
    :param file: its DAG file.
    """
    if file is not None:
        _FILES[_key(name)] = file
    _DELETED.discard(_key(name))


def note_deleted(name: str, file: str | None) -> None:
    """Note that this process has deleted a deployment.

    :param name: name of the deployment.
    :param file: its DAG file, if it is known.
    """
    note_created(name, file)
    _DELETED.add(_key(name))


def _key(name: str) -> tuple[str, str]:
    return str(metaflow_value("AIRFLOW_URL")), name


def published_file(name: str, client: AirflowClient) -> Any:
    """Return the DAG file that `create` wrote last, None if this machine does not know it.

    :param name: name of the deployment.
    :param client: the Airflow.
    """
    file = _FILES.get(_key(name))
    folder = metaflow_value("AIRFLOW_DAGS_FOLDER")
    here = client.endpoint.url.split("://")[-1].startswith(("127.0.0.1", "localhost", "[::1]"))
    if not file and not folder and not here:
        # AIRFLOW_HOME, which is looked at next, is that of another Airflow.
        return None
    try:
        return dag_file.target_file(name, file, folder, os.environ, "")
    except MetaflowProviderError:
        return None


def check_not_deleted(client: AirflowClient, name: str, file: Any) -> None:
    """Check that a deployment was not deleted by another process, which Airflow notices some minutes later.

    Airflow names the file that it has parsed. If that is the very file that `create` would write here, and it is gone
    from a folder that is there, then it was deleted. Of a file elsewhere, e.g. in a bundle, nothing is known.

    :param client: the Airflow.
    :param name: name of the deployment.
    :param file: its DAG file, None if this machine does not know it.
    :raises DagNotReadyError: if it was.
    """
    if not isinstance(file, Path) or file.exists() or not file.parent.is_dir():
        return
    found = dags.get_dag(client, name)
    if found is not None and found.path and Path(found.path).resolve() == file.resolve():
        raise dags.deleted(name)


def open_published(client: AirflowClient, name: str) -> DeployedDag:
    """Return a deployment as soon as Airflow has parsed what was deployed last, as far as this machine knows.

    :param client: the Airflow.
    :param name: name of the deployment.
    :raises DagNotReadyError: if there is none, it was deleted, or Airflow does not parse it in time.
    """
    file = published_file(name, client)
    digest = dag_file.published_digest(file)
    check_not_deleted(client, name, file)
    if digest is not None:
        return wait_for_deployment(client, name, None, digest=digest, timeout=WAIT_SECONDS)
    found = open_deployment(client, name)
    # What this process has deleted may stand in Airflow for some minutes.
    if found.dag.is_stale or _key(name) in _DELETED:
        raise dags.deleted(name)
    return found
