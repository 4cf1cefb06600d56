"""Checks of what a DAG file gives to ``MetaflowDag`` and ``MetaflowTaskGroup``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, TaskGroup
from airflow.sdk.definitions.taskgroup import MappedTaskGroup

from airflow_provider_metaflow._compat import DagContext
from airflow_provider_metaflow.plan.parameters import is_template
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph

from .claims import claim_dag_id

if TYPE_CHECKING:
    from airflow_provider_metaflow.plan.dag import DagPlan
    from metaflow_orchestration.documents.manifest import Manifest


def warn_of_schedule(graph: FlowGraph) -> None:
    """Warn of what does not count inside of a larger DAG; Airflow shows it as a warning of that DAG.

    :param graph: the flow.
    """
    ignored = [name for name, found in (("@schedule", graph.schedule), ("triggers", graph.triggers)) if found]
    if ignored:
        warnings.warn(
            f"flow {graph.name}: {' and '.join(ignored)} do not count inside a larger DAG, whose schedule does.",
            stacklevel=3,
        )


def warn_of_trigger_rule(graph: FlowGraph, default_args: Mapping[str, Any]) -> None:
    """Warn of what does not count; the default_args of a larger DAG are for its other tasks, too.

    :param graph: the flow.
    :param default_args: those of the DAG.
    """
    if "trigger_rule" in default_args:
        warnings.warn(
            f"flow {graph.name}: the trigger_rule of default_args does not count for its steps, of which the flow "
            "decides when they run.",
            stacklevel=3,
        )


def check_notifications(manifest: Manifest) -> None:
    """Refuse a flow that reports the end of its runs, for a part of a DAG.

    :param manifest: the compiled flow.
    :raises InvalidOptionError: if it does.
    """
    if manifest.deployment.notifications is not None:
        raise InvalidOptionError(
            "reports the end of its runs, but as a part of a DAG it has no run of its own.",
            flow=manifest.graph.name,
            hint="Remove the --notify options, and set on_failure_callback of the DAG.",
        )


def dag_around(group: TaskGroup, plan: DagPlan, graph: FlowGraph) -> DAG:
    """Return the DAG that a task group of a flow stands in.

    :param group: the task group.
    :param plan: the plan of the flow.
    :param graph: the flow.
    :raises InvalidOptionError: if there is none, or if the flow cannot stand there.
    """
    dag = group.dag or DagContext.get_current()
    if dag is None:
        raise InvalidOptionError(
            "MetaflowTaskGroup stands in no DAG.", flow=graph.name, hint="Use it in `with DAG(…):`."
        )
    if plan.segments and _is_mapped(group):
        raise InvalidOptionError(
            "has a foreach and stands in a mapped task group; Airflow cannot nest mapped task groups.",
            flow=graph.name,
            hint="Loop inside the flow, or trigger one DAG run per item.",
        )
    return dag


def _is_mapped(group: TaskGroup | None) -> bool:
    while group is not None:
        if isinstance(group, MappedTaskGroup):
            return True
        group = group.parent_group
    return False


def templates_and_values(graph: FlowGraph, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return those values of parameters that are rendered when a run starts, and the others.

    :param graph: the flow.
    :param given: values by parameter name.
    :raises InvalidOptionError: if the flow has no such parameter.
    """
    _check_names(graph, given)
    templates = {name: value for name, value in given.items() if is_template(value)}
    return templates, {name: value for name, value in given.items() if name not in templates}


def _check_names(graph: FlowGraph, given: Mapping[str, Any]) -> None:
    known = [parameter.name for parameter in graph.parameters]
    for name in given:
        if name not in known:
            raise InvalidOptionError(
                f"has no parameter {name!r}.",
                flow=graph.name,
                hint=f"Known are: {', '.join(known) or 'none'}.",
            )


def check_parameters(graph: FlowGraph, given: Mapping[str, Any]) -> None:
    """Check the values that the DAG around a flow gives to its parameters.

    :param graph: the flow.
    :param given: values by parameter name.
    :raises InvalidOptionError: if the flow has no such parameter, or if a required one is missing.
    """
    _check_names(graph, given)
    for parameter in graph.parameters:
        if parameter.required and parameter.name not in given:
            raise InvalidOptionError(
                f"parameter {parameter.name!r} is required but not given.",
                flow=graph.name,
                hint="Add it to `parameters`.",
            )


def check_overrides(graph: FlowGraph, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the operator arguments that the DAG file gives to steps.

    :param graph: the flow.
    :param overrides: operator arguments by step.
    :raises InvalidOptionError: if the flow has no such step, or if an argument cannot be set.
    """
    if overrides:
        from airflow_provider_metaflow.plan import translator

        translator.check_overrides(graph, overrides, BaseOperator)


def claimed_id(dag_id: str | None, manifest: Manifest) -> str:
    """Return the id of the DAG, which from now on belongs to this flow.

    :param dag_id: as the DAG file says; None for the name of the deployment.
    :param manifest: the compiled flow.
    :raises MetaflowProviderError: if it is no valid id, or if another flow has it.
    """
    if dag_id:
        from metaflow_orchestration.graph.naming import check_name

        check_name(dag_id, manifest.graph.name)
    name = dag_id or manifest.deployment.name
    claim_dag_id(name, manifest)
    return name
