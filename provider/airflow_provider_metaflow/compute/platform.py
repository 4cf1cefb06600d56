"""Which platform runs the tasks of a step in containers; its package and client are imported for that step only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaflow_orchestration.containers.options import split_options
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.graph.compute import Compute

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.compute.local.processes import LocalCompute
    from airflow_provider_metaflow.compute.remote import RemoteCompute
    from airflow_provider_metaflow.operators.step import MetaflowStepOperator
    from metaflow_orchestration.containers.placement import Placement

    from .batch.compute import BatchCompute
    from .kubernetes.compute import PodCompute


def make_remote(
    operator: MetaflowStepOperator,
    placement: Placement,
    context: Context,
    manifest: Manifest,
    code: CodePackage,
    variables: Mapping[str, str],
    local: LocalCompute,
    first_attempt: int,
) -> RemoteCompute:
    """Return the platform that runs the tasks of a step operator.

    :param operator: the step operator.
    :param placement: where the step runs.
    :param context: Airflow's task context.
    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param variables: variables of the orchestrator.
    :param local: the worker's own access to the datastore.
    :param first_attempt: the first attempt since the task was cleared.
    """
    step = manifest.graph.step(operator.step)
    attributes, arguments = split_options(manifest, step, placement.compute, placement.options)
    return _platform(placement.compute)(
        owner=operator,
        context=context,
        manifest=manifest,
        code=code,
        variables=variables,
        local=local,
        first_attempt=first_attempt,
        attributes=attributes,
        arguments=arguments,
    )


def _platform(compute: Compute) -> type[PodCompute | BatchCompute]:
    if compute is Compute.KUBERNETES:
        from .kubernetes.compute import PodCompute

        return PodCompute
    from .batch.compute import BatchCompute

    return BatchCompute
