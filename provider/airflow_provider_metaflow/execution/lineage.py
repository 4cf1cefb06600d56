"""Lineage for OpenLineage (extra ``openlineage``): Metaflow tasks as datasets, each made from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

_NAMESPACE = "metaflow"


def step_lineage(flow: str, pathspecs: Sequence[str], inputs: Sequence[str], doc: str) -> OperatorLineage[Any, Any]:
    """Return inputs, outputs and facets of a task instance that ran Metaflow tasks.

    :param flow: name of the flow.
    :param pathspecs: ``Flow/run/step/task`` of the tasks.
    :param inputs: ``run/step/task`` of those that they took artifacts from.
    :param doc: documentation of the step.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.facet_v2 import documentation_job, external_query_run

    sources = [f"{flow}/{path}" for path in inputs if "/_parameters/" not in path]
    job_facets: dict[str, Any] = {}
    if doc:
        job_facets["documentation"] = documentation_job.DocumentationJobFacet(description=doc)
    run_facets: dict[str, Any] = {}
    if pathspecs:
        run_facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(
            externalQueryId=pathspecs[0], source=_NAMESPACE
        )
    return OperatorLineage(
        inputs=[Dataset(namespace=_NAMESPACE, name=name) for name in sources],
        outputs=[Dataset(namespace=_NAMESPACE, name=name) for name in pathspecs],
        run_facets=run_facets,
        job_facets=job_facets,
    )
