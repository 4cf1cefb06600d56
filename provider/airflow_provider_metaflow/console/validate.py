"""Checks a DAGs folder: every manifest, and the DAGs as Airflow itself would import them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.plan.checked import named_in_airflow
from airflow_provider_metaflow.plan.rules import check_deployable
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import configured_endpoint
from metaflow_orchestration.compile.configuration import metaflow_value
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, read_manifest
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.compute import validate_compute
from metaflow_orchestration.graph.validate import validate_graph

from .findings import Finding


def validate_folder(folder: Path) -> list[Finding]:
    """Check all that is below a folder.

    :param folder: the DAGs folder.
    """
    findings: list[Finding] = []
    manifests: dict[Path, Manifest] = {}
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        name = str(path.relative_to(folder))
        try:
            manifest = read_manifest(path)
            validate_graph(manifest.graph)
            validate_compute(manifest.graph, _environment(manifest))
            check_deployable(manifest)
        except MetaflowProviderError as error:
            findings.append(Finding(subject=name, state="error", text=error.message, fix=error.hint or ""))
            continue
        manifests[path] = manifest
        findings.extend(_manifest_findings(name, path, manifest))
    findings.extend(_in_airflow(manifests, folder))
    findings.extend(import_dags(folder))
    return findings


def _environment(manifest: Manifest) -> str:
    """Return Metaflow's ``--environment`` that the flow was deployed with."""
    given = [one.partition("=")[2] for one in manifest.command.top_level if one.startswith("--environment=")]
    return given[0] if given else "local"


def _manifest_findings(name: str, path: Path, manifest: Manifest) -> Iterator[Finding]:
    graph, code = manifest.graph, manifest.code
    steps = f"{len(graph.steps)} steps of the flow {graph.name}"
    if code.datastore == "local" and not Path(code.url).exists():
        yield Finding(
            subject=name,
            state="error",
            text=f"its code package {code.url} is gone",
            fix="Run `airflow create` again, or mount the datastore.",
        )
        return
    yield Finding(subject=name, state="ok", text=f"{steps}, deployed as {manifest.deployment.name}")
    dag_file = path.with_name(path.name.removesuffix(SUFFIX) + ".py")
    if not dag_file.exists():
        text = f"no {dag_file.name} stands beside it"
        yield Finding(subject=name, state="warning", text=text, fix="Fine if a DAG file of yours loads it.")


def _in_airflow(manifests: dict[Path, Manifest], folder: Path) -> Iterator[Finding]:
    """Look for the pools and connections that the deployments name."""
    wanted = [
        (str(path.relative_to(folder)), kind, name)
        for path, one in manifests.items()
        for kind, name in named_in_airflow(one)
    ]
    if not wanted:
        return
    try:
        with AirflowClient(configured_endpoint(metaflow_value)) as client:
            for subject, kind, name in wanted:
                there = client.find(f"{kind}s", name) is not None
                fix = "metaflow-airflow pools FOLDER --create" if kind == "pool" else "Make it in Airflow."
                yield Finding(
                    subject=subject,
                    state="ok" if there else "error",
                    text=f"the {kind} {name} {'is there' if there else 'is missing'}",
                    fix="" if there else fix,
                )
    except MetaflowProviderError as error:
        text = f"{len(wanted)} pools and connections could not be looked for: {error.message}"
        yield Finding(subject="Airflow", state="warning", text=text, fix=error.hint or "")


def import_dags(folder: Path) -> Iterator[Finding]:
    """Import the DAG files below a folder as Airflow does, and serialize their DAGs.

    :param folder: the DAGs folder.
    """
    try:
        from airflow_provider_metaflow._compat import DagBag, serialize_dag
    except ImportError:
        text = "Airflow is not installed here, so that no DAG file was imported"
        yield Finding(subject="DAG files", state="warning", text=text, fix="Run this in the Airflow image.")
        return
    bag: Any = DagBag(str(folder))
    for file, text in sorted(bag.import_errors.items()):
        last = [line for line in str(text).splitlines() if line.strip()][-1:]
        yield Finding(subject=_relative(file, folder), state="error", text=" ".join(last).strip())
    for dag_id, dag in sorted(bag.dags.items()):
        try:
            serialize_dag(dag)
        except Exception as error:  # noqa: PERF203  (each DAG has an outcome of its own)
            yield Finding(subject=dag_id, state="error", text=f"it cannot be serialized: {error}")
        else:
            yield Finding(subject=dag_id, state="ok", text=f"a DAG of {len(dag.tasks)} tasks")


def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_absolute() and path.is_relative_to(folder) else file
