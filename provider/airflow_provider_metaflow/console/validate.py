"""Checks a DAGs folder: every manifest, and the DAGs as Airflow itself would import them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.plan.rules import check_rules
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, read_manifest
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.compute import validate_compute
from metaflow_orchestration.graph.validate import validate_graph

from .findings import Finding
from .needs import check_needs, needs_of_dag, needs_of_manifest


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
            check_rules(manifest)
        except MetaflowProviderError as error:
            findings.append(Finding(subject=name, state="error", text=error.message, fix=error.hint or ""))
            continue
        manifests[path] = manifest
        findings.extend(_manifest_findings(name, path, manifest))
    imported, dags = load_dags(folder)
    deployed = [need for one in manifests.values() for need in needs_of_manifest(one)]
    findings.extend(check_needs([*deployed, *(need for dag in dags for need in needs_of_dag(dag))]))
    findings.extend(imported)
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


def load_dags(folder: Path) -> tuple[list[Finding], list[Any]]:
    """Import the DAG files below a folder as Airflow does, serialize their DAGs, and return findings and DAGs.

    :param folder: the DAGs folder.
    """
    try:
        from airflow_provider_metaflow._compat import DagBag, serialize_dag
    except ImportError:
        text = "Airflow is not installed here, so that no DAG file was imported"
        return [Finding(subject="DAG files", state="warning", text=text, fix="Run this in the Airflow image.")], []
    bag: Any = DagBag(str(folder))
    findings = []
    for file, text in sorted(bag.import_errors.items()):
        last = [line for line in str(text).splitlines() if line.strip()][-1:]
        findings.append(Finding(subject=_relative(file, folder), state="error", text=" ".join(last).strip()))
    for dag_id, dag in sorted(bag.dags.items()):
        try:
            serialize_dag(dag)
        except Exception as error:  # noqa: PERF203  (each DAG has an outcome of its own)
            findings.append(Finding(subject=dag_id, state="error", text=f"it cannot be serialized: {error}"))
        else:
            findings.append(Finding(subject=dag_id, state="ok", text=f"a DAG of {len(dag.tasks)} tasks"))
    return findings, list(bag.dags.values())


def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_absolute() and path.is_relative_to(folder) else file
