"""Examines this machine: what is installed and configured, what is missing, how to mend it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rich.table import Table

from metaflow_orchestration.exceptions import MetaflowProviderError

from .findings import Finding, table_of

_OPTIONAL = {
    "slack": ("airflow.providers.slack", "--notify-slack-…"),
    "pagerduty": ("airflow.providers.pagerduty", "--notify-pager-duty-…"),
    "amazon": ("airflow.providers.amazon", "@airflow_s3_key_sensor"),
    "openlineage": ("airflow.providers.openlineage", "lineage"),
    "s3": ("cloudpathlib", "`airflow create s3://…`"),
}


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_packages(), *_metaflow(), *_airflow(), *_api(), *_extras()]


def report(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table.

    :param findings: the findings.
    """
    return table_of(findings, f"airflow-provider-metaflow on {sys.executable}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    yield Finding(subject="Python", state="ok", text=sys.version.split()[0])
    metaflow, airflow = _version("metaflow"), _version("apache-airflow-core")
    yield (
        Finding(subject="Metaflow", state="ok", text=metaflow)
        if metaflow
        else Finding(subject="Metaflow", state="error", text="is missing", mend="pip install metaflow")
    )
    yield (
        Finding(subject="Airflow", state="ok", text=airflow)
        if airflow
        else Finding(
            subject="Airflow",
            state="warning",
            text="is not installed here; fine on a laptop that only deploys",
            mend='pip install "airflow-provider-metaflow[airflow]"',
        )
    )


def _metaflow() -> Iterator[Finding]:
    try:
        from metaflow.plugins import CLIS_DESC
    except Exception as error:
        yield Finding(subject="Metaflow", state="error", text=f"cannot be imported: {error}")
        return
    ours = any("airflow_provider_metaflow" in place for name, place in CLIS_DESC if name == "airflow")
    yield Finding(
        subject="Metaflow extension",
        state="ok" if ours else "error",
        text="`flow.py airflow` is ours" if ours else "`flow.py airflow` is Metaflow's own group",
        mend="" if ours else "Install this package where Metaflow is, and look at METAFLOW_ENABLED_CLI.",
    )
    yield from _datastore()


def _datastore() -> Iterator[Finding]:
    from metaflow.metaflow_config import DEFAULT_DATASTORE, DEFAULT_METADATA
    from metaflow.plugins import DATASTORES
    from metaflow.util import get_username

    storage = next(one for one in DATASTORES if DEFAULT_DATASTORE == one.TYPE)
    root = storage.get_datastore_root_from_config(lambda *_, **__: None, create_on_absent=False)
    if DEFAULT_DATASTORE == "local":
        yield _local_datastore(root)
    else:
        missing = Finding(
            subject="Datastore",
            state="error",
            text=f"{DEFAULT_DATASTORE} has no root",
            mend=f"Set METAFLOW_DATASTORE_SYSROOT_{DEFAULT_DATASTORE.upper()}.",
        )
        yield Finding(subject="Datastore", state="ok", text=f"{DEFAULT_DATASTORE} at {root}") if root else missing
    yield Finding(subject="Metadata", state="ok", text=str(DEFAULT_METADATA))
    user = get_username()
    yield (
        Finding(subject="User", state="ok", text=user)
        if user
        else Finding(subject="User", state="error", text="Metaflow knows no user name", mend="Set METAFLOW_USER.")
    )


def _local_datastore(root: str | None) -> Finding:
    if root is None:
        return Finding(
            subject="Datastore",
            state="warning",
            text="local, but no folder is named; each working folder would have its own",
            mend="Set METAFLOW_DATASTORE_SYSROOT_LOCAL to a folder that all workers see.",
        )
    try:
        with tempfile.NamedTemporaryFile(dir=root):
            pass
    except OSError as error:
        return Finding(
            subject="Datastore",
            state="error",
            text=f"{root} cannot be written ({error.strerror})",
            mend="Mend its rights.",
        )
    return Finding(subject="Datastore", state="ok", text=f"local at {root}")


def _airflow() -> Iterator[Finding]:
    if _version("apache-airflow-core") is None:
        return
    from airflow.providers_manager import ProvidersManager

    known = "airflow-provider-metaflow" in ProvidersManager().providers  # type: ignore[no-untyped-call]
    yield Finding(
        subject="Airflow provider",
        state="ok" if known else "error",
        text="is registered" if known else "is not registered",
        mend="" if known else "Install this package with pip, so that its entry points are there.",
    )
    from airflow_provider_metaflow import settings

    yield Finding(subject="[metaflow] cache_folder", state="ok", text=str(settings.cache_folder()))
    python = settings.python()
    there = os.access(python, os.X_OK)
    yield Finding(
        subject="[metaflow] python",
        state="ok" if there else "error",
        text=python if there else f"{python} is no program",
        mend="" if there else "Name an interpreter that exists on every worker.",
    )


def _api() -> Iterator[Finding]:
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint
    from metaflow_orchestration.compile.configuration import metaflow_value

    if not metaflow_value("AIRFLOW_URL"):
        text = "METAFLOW_AIRFLOW_URL is not set, so `trigger` and its kin have nobody to talk to"
        yield Finding(subject="Airflow API", state="warning", text=text, mend="Set it to Airflow's address.")
        return
    try:
        endpoint = configured_endpoint(lambda name: "5" if name == "AIRFLOW_PATIENCE" else metaflow_value(name))
        with AirflowClient(endpoint) as client:
            answer = client.request("GET", "/version")
            client.request("GET", "/dags", params={"limit": 1})
    except MetaflowProviderError as error:
        yield Finding(subject="Airflow API", state="error", text=error.message, mend=error.hint or "")
    else:
        yield Finding(subject="Airflow API", state="ok", text=f"Airflow {answer['version']} at {endpoint.url}")


def _extras() -> Iterator[Finding]:
    for extra, (module, use) in _OPTIONAL.items():
        there = _has(module)
        yield Finding(
            subject=f"extra {extra}",
            state="ok",
            text=f"installed, for {use}" if there else f"not installed; {use} needs it",
            mend="" if there else f'pip install "airflow-provider-metaflow[{extra}]"',
        )


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
