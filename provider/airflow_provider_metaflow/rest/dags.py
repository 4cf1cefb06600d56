"""Deployed flows, as Airflow's API shows their DAGs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_provider_metaflow.deploy.record import DeploymentRecord, from_markdown
from metaflow_orchestration.exceptions import MetaflowProviderError

from .client import AirflowClient, AirflowObject, path_of

TAG = "metaflow"
_PAGE = 100
_PAUSE = 0.5


class DagNotReadyError(MetaflowProviderError, RuntimeError):
    """A DAG that Airflow does not know, cannot import, or holds paused."""

    fix = "Wait until Airflow has parsed the DAG file, or fix the import error that Airflow shows."


@dataclass(frozen=True, slots=True, kw_only=True)
class DagInfo:
    """A DAG of Airflow.

    :param dag_id: its id.
    :param is_paused: whether its runs wait.
    :param is_stale: whether its file is gone or names it no more.
    :param tags: its tags.
    :param file: its file, relative to its bundle.
    :param record: what its deployment says about itself; None if it is not a Metaflow flow.
    :param path: its file on the machine that has parsed it; empty if Airflow does not say.
    """

    dag_id: str
    is_paused: bool
    is_stale: bool
    tags: tuple[str, ...]
    file: str
    record: DeploymentRecord | None
    path: str = ""


def get_dag(client: AirflowClient, dag_id: str) -> DagInfo | None:
    """Return a DAG, None if Airflow has never parsed one of that id.

    :param client: the Airflow.
    :param dag_id: the DAG.
    """
    data = client.find("dags", dag_id, "details")
    return None if data is None else _dag(data)


def list_dags(client: AirflowClient) -> Iterator[DagInfo]:
    """Yield all deployed flows, in order of their names.

    :param client: the Airflow.
    """
    offset, has_plugin = 0, True
    while True:
        page = client.ask_plugin("/deployments", limit=_PAGE, offset=offset) if has_plugin else None
        if page is None:
            # Airflow's own list leaves the records out, which takes a request for each DAG.
            has_plugin = False
            page = client.request(
                "GET", "/dags", params={"tags": TAG, "limit": _PAGE, "offset": offset, "order_by": "dag_id"}
            )
        for one in page["dags"]:
            dag = _dag(one) if has_plugin else get_dag(client, one["dag_id"])
            if dag is not None and dag.record is not None:
                yield dag
        offset += len(page["dags"])
        if not page["dags"] or offset >= page["total_entries"]:
            return


def set_paused(client: AirflowClient, dag_id: str, paused: bool) -> None:
    """Pause a DAG or let it run.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param paused: whether its runs shall wait.
    """
    client.request("PATCH", path_of("dags", dag_id), json={"is_paused": paused})


def import_errors(client: AirflowClient) -> dict[str, str]:
    """Return the import errors by file name, relative to their bundle.

    :param client: the Airflow.
    """
    return {one["filename"]: one["stack_trace"] for one in _import_errors(client)}


def wait_for_dag(
    client: AirflowClient,
    dag_id: str,
    *,
    digest: str | None = None,
    timeout: float = 300,
    report: Callable[[str], None] | None = None,
) -> DagInfo:
    """Wait until Airflow has parsed a DAG, and the deployment of it that was made last if that is known.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param digest: digest of the manifest to wait for.
    :param timeout: seconds.
    :param report: called once, with a sentence, if there is something to wait for.
    :raises DagNotReadyError: if it has an import error, or does not appear in time.
    """
    began = datetime.now(timezone.utc)
    end = time.monotonic() + timeout
    while True:
        dag = get_dag(client, dag_id)
        if dag is not None and not dag.is_stale and digest in (None, dag.record.digest if dag.record else None):
            return dag
        late = time.monotonic() >= end
        error = import_error_of(client, dag_id, None if late else began)
        if error is not None:
            raise cannot_import(dag_id, error)
        if late:
            what = "the DAG" if dag is None or dag.is_stale else "this deployment of the DAG"
            raise DagNotReadyError(
                f"Airflow has not parsed {what} {dag_id} within {timeout:g} s.",
                hint="Check that the DAG file lies in a DAG bundle of this Airflow and that its DAG processor runs.",
            )
        if report is not None:
            report(f"Waiting for Airflow to parse the DAG {dag_id}...")
            report = None
        time.sleep(_PAUSE)


def cannot_import(dag_id: str, error: str) -> DagNotReadyError:
    """Return the error of a deployment whose DAG file has an import error.

    :param dag_id: the DAG.
    :param error: the import error.
    """
    return DagNotReadyError(
        f"Airflow cannot import the DAG {dag_id}: {error}", hint="Fix it and run `airflow create` again."
    )


def deleted(dag_id: str) -> DagNotReadyError:
    """Return the error of a deployment whose files are gone.

    :param dag_id: the DAG.
    """
    return DagNotReadyError(
        f"the deployment {dag_id} was deleted: no DAG file of this Airflow makes the DAG any more.",
        hint="Deploy it with `airflow create`; if that was done just now, wait until Airflow has parsed it.",
    )


def _dag(data: AirflowObject) -> DagInfo:
    return DagInfo(
        dag_id=data["dag_id"],
        is_paused=data["is_paused"],
        is_stale=data["is_stale"],
        tags=tuple(sorted(tag["name"] for tag in data["tags"])),
        file=data.get("relative_fileloc") or "",
        record=from_markdown(data.get("doc_md")),
        path=data.get("fileloc") or "",
    )


def _import_errors(client: AirflowClient) -> list[AirflowObject]:
    found: list[AirflowObject] = []
    while True:
        page = client.request("GET", "/importErrors", params={"limit": _PAGE, "offset": len(found)})
        found.extend(page["import_errors"])
        if not page["import_errors"] or len(found) >= page["total_entries"]:
            return found


def import_error_of(client: AirflowClient, dag_id: str, since: datetime | None = None) -> str | None:
    """Return the last line of the import error of a DAG's file, if it arose after a time."""
    for one in _import_errors(client):
        name = str(one["filename"]).rsplit("/", 1)[-1]
        at = datetime.fromisoformat(str(one["timestamp"]).replace("Z", "+00:00"))
        if name == f"{dag_id}.py" and (since is None or at >= since):
            lines = [line for line in str(one["stack_trace"]).splitlines() if line.strip()]
            return lines[-1].strip() if lines else "unknown"
    return None
