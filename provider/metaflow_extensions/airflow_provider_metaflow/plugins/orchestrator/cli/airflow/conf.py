"""Parameters of a run as the JSON types that a DAG run takes as its conf."""

from __future__ import annotations

from typing import Any

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.parameters import given_values
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.resumed_runs import stored_values
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import Values


def given_parameters(obj: Any, options: Values) -> dict[str, Any]:
    """Return the values of the parameters that were given, as the JSON types that a DAG run takes.

    :param obj: state of Metaflow's command line.
    :param options: values of click, by its own names of options.
    """
    from airflow_provider_metaflow.plan.parameters import conf_value

    return {parameter.name: conf_value(parameter, value) for parameter, value in given_values(obj, options)}


def stored_conf(obj: Any, run_id: str) -> dict[str, Any] | None:
    """Return the required parameters of a run of another deployer as the JSON types that a DAG run takes.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id.
    """
    from airflow_provider_metaflow.plan.parameters import conf_value
    from metaflow_orchestration.compile.reading.parameters import read_parameters

    found = stored_values(obj, run_id)
    if found is None:
        return None
    return {
        one.name: conf_value(one, found[one.name])
        for one in read_parameters(obj.flow, with_defaults=False)
        if one.name in found
    }
