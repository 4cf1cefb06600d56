"""Examines this machine: what is installed and configured, what is missing, how to fix it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metaflow_orchestration.exceptions import MetaflowProviderError

from .findings import Finding
from .installed import DISTRIBUTION, USES, extras, installed_version, unmet


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_packages(), *_metaflow(), *_airflow(), *_api(), *_dags(), *_extras()]


def _packages() -> Iterator[Finding]:
    yield Finding(subject="Python", state="ok", text=sys.version.split()[0])
    yield Finding(subject="Metaflow", state="ok", text=installed_version("metaflow") or "unknown")
    for name, found in unmet():
        text = f"{name} is required, and {f'{found} is installed' if found else 'is not installed'}"
        yield Finding(subject="Requirement", state="error", text=text, fix=f"pip install --upgrade {DISTRIBUTION}")
    airflow = installed_version("apache-airflow-core")
    yield (
        Finding(subject="Airflow", state="ok", text=airflow)
        if airflow
        else Finding(
            subject="Airflow",
            state="none",
            text="not installed here; fine on a laptop that only deploys",
            fix=f'pip install "{DISTRIBUTION}[airflow]"',
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
        fix="" if ours else "Install this package where Metaflow is, and look at METAFLOW_ENABLED_CLI.",
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
            fix=f"Set METAFLOW_DATASTORE_SYSROOT_{DEFAULT_DATASTORE.upper()}.",
        )
        yield Finding(subject="Datastore", state="ok", text=f"{DEFAULT_DATASTORE} at {root}") if root else missing
    yield Finding(subject="Metadata", state="ok", text=str(DEFAULT_METADATA))
    user = get_username()
    yield (
        Finding(subject="User", state="ok", text=user)
        if user
        else Finding(subject="User", state="error", text="Metaflow knows no user name", fix="Set METAFLOW_USER.")
    )


def _local_datastore(root: str | None) -> Finding:
    if root is None:
        return Finding(
            subject="Datastore",
            state="warning",
            text="local, but no folder is named; each working folder would have its own",
            fix="Set METAFLOW_DATASTORE_SYSROOT_LOCAL to a folder that all workers see.",
        )
    try:
        with tempfile.NamedTemporaryFile(dir=root):
            pass
    except OSError as error:
        return Finding(
            subject="Datastore",
            state="error",
            text=f"{root} cannot be written ({error.strerror})",
            fix="Give the user of this process the right to write there.",
        )
    return Finding(subject="Datastore", state="ok", text=f"local at {root}")


def _airflow() -> Iterator[Finding]:
    if installed_version("apache-airflow-core") is None:
        return
    from airflow.providers_manager import ProvidersManager

    known = "airflow-provider-metaflow" in ProvidersManager().providers  # type: ignore[no-untyped-call]
    yield Finding(
        subject="Airflow provider",
        state="ok" if known else "error",
        text="is registered" if known else "is not registered",
        fix="" if known else "Install this package with pip, so that its entry points are there.",
    )
    from airflow_provider_metaflow import settings

    yield Finding(subject="[metaflow] cache_folder", state="ok", text=str(settings.cache_folder()))
    python = settings.python()
    there = os.access(python, os.X_OK)
    yield Finding(
        subject="[metaflow] python",
        state="ok" if there else "error",
        text=python if there else f"{python} is not a program",
        fix="" if there else "Name an interpreter that exists on every worker.",
    )


def _api() -> Iterator[Finding]:
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint
    from metaflow_orchestration.compile.configuration import metaflow_value

    if not metaflow_value("AIRFLOW_URL"):
        text = "METAFLOW_AIRFLOW_URL is not set, so `trigger`, `status` and the other verbs cannot reach Airflow"
        yield Finding(subject="Airflow API", state="warning", text=text, fix="Set it to the address of the API server.")
        return
    try:
        endpoint = configured_endpoint(lambda name: "5" if name == "AIRFLOW_PATIENCE" else metaflow_value(name))
        with AirflowClient(endpoint) as client:
            answer = client.request("GET", "/version")
            client.request("GET", "/dags", params={"limit": 1})
    except MetaflowProviderError as error:
        yield Finding(subject="Airflow API", state="error", text=error.message, fix=error.hint or "")
    else:
        yield Finding(subject="Airflow API", state="ok", text=f"Airflow {answer['version']} at {endpoint.url}")
    yield from _shared_datastore(metaflow_value("AIRFLOW_URL") or "")


def _shared_datastore(url: str) -> Iterator[Finding]:
    from metaflow.metaflow_config import DEFAULT_DATASTORE

    from airflow_provider_metaflow.rest.endpoint import is_this_machine

    if DEFAULT_DATASTORE == "local" and not is_this_machine(url):
        yield Finding(
            subject="Datastore of a remote Airflow",
            state="error",
            text=f"flows deployed from here keep their runs in a folder of this machine, which the workers of {url} "
            "do not see",
            fix="Set METAFLOW_DEFAULT_DATASTORE=s3, azure or gs. Ignore this if the folder is a network share that is "
            "mounted at the same path on every worker.",
        )


def _dags() -> Iterator[Finding]:
    """Look at the DAGs of the Airflow that is installed here: only what keeps them from running is reported."""
    if installed_version("apache-airflow-core") is None:
        return
    from airflow_provider_metaflow._compat import conf

    folder = Path(conf.get("core", "dags_folder", fallback=""))
    if not folder.is_dir():
        return
    from .needs import check_needs, needs_of_dag
    from .validate import load_dags

    imported, dags = load_dags(folder)
    found = [*imported, *check_needs(need for dag in dags for need in needs_of_dag(dag))]
    wrong = [one for one in found if one.state != "ok"]
    yield Finding(subject="DAGs folder", state="ok", text=f"{len(dags)} DAGs in {folder}, {len(wrong)} with findings")
    yield from wrong


def _extras() -> Iterator[Finding]:
    needed = _needed_extras()
    for extra in extras():
        use = USES.get(extra, "something else")
        missing = unmet(extra)
        absent = [name for name, found in missing if found is None]
        subject, install = f"extra {extra}", f'pip install "{DISTRIBUTION}[{extra}]"'
        if not missing:
            yield Finding(subject=subject, state="ok", text=f"installed, for {use}")
        elif absent and extra in needed:
            text = f"not installed, but {needed[extra]}"
            yield Finding(subject=subject, state="error", text=text, fix=install)
        elif absent:
            yield Finding(subject=subject, state="none", text=f"not installed; only for {use}", fix=install)
        else:
            text = "; ".join(f"{name} is required, {found} is installed" for name, found in missing)
            yield Finding(subject=subject, state="warning", text=text, fix=install)


def _needed_extras() -> dict[str, str]:
    """Return the extras that the configuration asks for, each with the reason."""
    from metaflow_orchestration.compile.configuration import metaflow_value

    folder = metaflow_value("AIRFLOW_DAGS_FOLDER") or ""
    reason = f"METAFLOW_AIRFLOW_DAGS_FOLDER is {folder}"
    return {extra: reason for scheme, extra in (("s3://", "s3"), ("gs://", "gcs")) if folder.startswith(scheme)}
