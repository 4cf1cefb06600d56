"""Pools and connections that flows ask for, and whether Airflow has them: without its pool a task waits for ever."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_metaflow.plan.checked import named_in_airflow
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import configured_endpoint
from metaflow_orchestration.compile.configuration import metaflow_value
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import MetaflowProviderError

from .findings import Finding

_DEFAULT_POOL = "default_pool"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Need:
    """A pool or a connection that something asks for.

    :param kind: ``pool`` or ``connection``.
    :param name: its name.
    :param dag: the DAG that asks for it.
    :param task: its task; empty for the whole DAG.
    :param slots: how many slots of a pool one task instance takes.
    """

    kind: str
    name: str
    dag: str
    task: str = ""
    slots: int = 1


class Inventory(Protocol):
    """What an Airflow has."""

    def pool_slots(self, name: str) -> int | None:
        """Return the size of a pool, -1 if it has no limit, None if there is no such pool."""

    def has_connection(self, name: str) -> bool:
        """Return whether there is a connection."""


def needs_of_manifest(manifest: Manifest) -> Iterator[Need]:
    """Yield the pool and the connections that a deployment names.

    :param manifest: the deployment.
    """
    for kind, name in named_in_airflow(manifest):
        if kind == "pool" or not _is_optional(name):
            yield Need(kind, name, manifest.deployment.name)


def needs_of_dag(dag: Any) -> Iterator[Need]:
    """Yield what the tasks of a DAG name, if a Metaflow flow is a part of it.

    :param dag: the DAG.
    """
    if not any(type(task).__module__.startswith("airflow_provider_metaflow.") for task in dag.tasks):
        return
    for task in dag.tasks:
        if task.pool and task.pool != _DEFAULT_POOL:
            yield Need("pool", task.pool, dag.dag_id, task.task_id, int(task.pool_slots))
        for name in _connections(vars(task)):
            yield Need("connection", name, dag.dag_id, task.task_id)


def _connections(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield connections that are arguments of an operator, or options of the pods and jobs of a step."""
    for key, value in arguments.items():
        if key == "options" and isinstance(value, Mapping):
            yield from _connections(value)
        # Hooks do without a default connection that is missing, and a template is known when the task runs.
        elif key.endswith("conn_id") and isinstance(value, str) and value and not _is_optional(value):
            yield value


def _is_optional(connection: str) -> bool:
    return connection.endswith("_default") or "{{" in connection


def check_needs(needs: Iterable[Need]) -> Iterator[Finding]:
    """Look for everything in the Airflow that METAFLOW_AIRFLOW_URL names, or else in the database of the one here.

    :param needs: what is asked for.
    """
    wanted: dict[tuple[str, str], list[Need]] = {}
    for one in needs:
        wanted.setdefault((one.kind, one.name), []).append(one)
    if not wanted:
        return
    try:
        if not metaflow_value("AIRFLOW_URL") and (inventory := _database()) is not None:
            yield from _findings(wanted, inventory)
            return
        with AirflowClient(configured_endpoint(metaflow_value)) as client:
            yield from _findings(wanted, _Api(client))
    except MetaflowProviderError as error:
        text = f"{len(wanted)} pools and connections could not be looked for: {error.message}"
        fix = error.hint or "" if metaflow_value("AIRFLOW_URL") else "Set METAFLOW_AIRFLOW_URL, or run this in Airflow."
        yield Finding(subject="Airflow", state="warning", text=text, fix=fix)


def _findings(wanted: Mapping[tuple[str, str], list[Need]], inventory: Inventory) -> Iterator[Finding]:
    for (kind, name), needs in sorted(wanted.items()):
        subject, text, fix = _asked_by(needs), f"the {kind} {name} is there", ""
        if kind == "connection":
            if not _in_environment(name) and not inventory.has_connection(name):
                text, fix = f"the connection {name} is missing", f"airflow connections add {name} …"
        else:
            slots, most = inventory.pool_slots(name), max(one.slots for one in needs)
            if slots is None:
                text = f"the pool {name} is missing, so its tasks wait for ever"
                fix = f"airflow pools set {name} SLOTS DESCRIPTION, or metaflow-airflow pools FOLDER --create"
            elif 0 <= slots < most:
                text = f"the pool {name} has {slots} slots and a task takes {most}, so it waits for ever"
                fix = f"airflow pools set {name} {most} DESCRIPTION"
        yield Finding(subject=subject, state="error" if fix else "ok", text=text, fix=fix)


def _asked_by(needs: list[Need]) -> str:
    tasks: dict[str, set[str]] = {}
    for one in needs:
        tasks.setdefault(one.dag, set()).add(one.task)
    # A single task is named, of several the DAG only.
    names = [f"{dag}.{next(iter(found))}".rstrip(".") if len(found) == 1 else dag for dag, found in tasks.items()]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _in_environment(connection: str) -> bool:
    return f"AIRFLOW_CONN_{connection.upper()}" in os.environ


class _Api:
    """Airflow by its REST API. Connections of a secrets backend do not show there."""

    def __init__(self, client: AirflowClient) -> None:
        self._client = client

    def pool_slots(self, name: str) -> int | None:
        found = self._client.find("pools", name)
        return None if found is None else int(found.get("slots", -1))

    def has_connection(self, name: str) -> bool:
        return self._client.find("connections", name) is not None


class _Database:
    """Airflow by its own database and secrets backends, where this runs beside it."""

    def pool_slots(self, name: str) -> int | None:
        from airflow.models.pool import Pool

        found = Pool.get_pool(name)
        return None if found is None else int(found.slots)

    def has_connection(self, name: str) -> bool:
        from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
        from airflow.models.connection import Connection

        try:
            Connection.get_connection_from_secrets(name)
        except AirflowNotFoundException:
            return False
        return True


def _database() -> Inventory | None:
    """Return the database of the Airflow that is installed here, None if there is none that has been migrated."""
    try:
        from airflow import settings
        from sqlalchemy import inspect, make_url
    except ImportError:
        return None
    url = make_url(str(settings.SQL_ALCHEMY_CONN))
    # Connecting would create the file.
    if url.get_backend_name() == "sqlite" and not os.path.exists(url.database or ""):  # noqa: PTH110
        return None
    try:
        engine: Any = settings.engine
        return _Database() if inspect(engine).has_table("slot_pool") else None
    except Exception:  # the driver's own errors: a database that is not there is not asked
        return None
