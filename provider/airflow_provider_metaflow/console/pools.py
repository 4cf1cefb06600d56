"""Pools that deployed flows ask for; a task whose pool is missing would wait for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import configured_endpoint
from metaflow_orchestration.compile.configuration import metaflow_value
from metaflow_orchestration.documents.manifest import SUFFIX, read_manifest


def pools_of(folder: Path) -> dict[str, list[str]]:
    """Return the pools that the manifests below a folder name, each with the deployments that do.

    :param folder: the folder.
    :raises ManifestError: if one cannot be read.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        deployment = read_manifest(path).deployment
        if deployment.worker_pool:
            found.setdefault(deployment.worker_pool, []).append(deployment.name)
    return dict(sorted(found.items()))


def create_missing(pools: list[str], slots: int) -> Iterator[str]:
    """Make the pools that Airflow does not have; yield what was done.

    :param pools: their names.
    :param slots: size of each.
    """
    with AirflowClient(configured_endpoint(metaflow_value)) as client:
        for pool in pools:
            if client.find("pools", pool) is not None:
                yield f"{pool} is there"
                continue
            body = {"name": pool, "slots": slots, "description": "Metaflow steps", "include_deferred": False}
            client.request("POST", "/pools", json=body)
            yield f"{pool} was made with {slots} slots"
