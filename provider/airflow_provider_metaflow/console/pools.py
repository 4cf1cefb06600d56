"""Pools that deployed flows ask for; a task whose pool is missing would wait for ever."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

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


def create_missing(pools: list[str], slots: int) -> list[str]:
    """Create the pools that Airflow does not have; return their names.

    :param pools: their names.
    :param slots: size of each.
    """
    created = []
    with AirflowClient(configured_endpoint(metaflow_value)) as client:
        for pool in pools:
            if client.find("pools", pool) is not None:
                continue
            body = {"name": pool, "slots": slots, "description": "Metaflow steps", "include_deferred": False}
            client.request("POST", "/pools", json=body)
            created.append(pool)
    return created


def table_of_pools(pools: Mapping[str, list[str]], created: list[str] | None, title: str) -> Table:
    """Return pools as a table.

    :param pools: deployments by the pool that they ask for.
    :param created: pools that were just created; None if Airflow was not asked.
    :param title: title of the table.
    """
    table = Table(title=title, title_justify="left")
    for column in ("pool", "deployments", *(() if created is None else ("in Airflow",))):
        table.add_column(column, overflow="fold")
    for pool, deployments in pools.items():
        state = () if created is None else ("created" if pool in created else "exists",)
        table.add_row(*map(Text, (pool, ", ".join(deployments), *state)))
    return table
