"""Ends a DAG run of this or another Airflow through its REST API; workers have no other way to do that."""

from __future__ import annotations

import logging
import os

from metaflow_orchestration.exceptions import MetaflowProviderError

log = logging.getLogger(__name__)


def cancel_dag_run(dag_id: str, dag_run_id: str) -> bool:
    """End a run as failed; write into the log what prevents it.

    :param dag_id: the DAG.
    :param dag_run_id: Airflow's id of the run.
    """
    from airflow_provider_metaflow.rest import runs
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint

    try:
        endpoint = configured_endpoint(lambda name: os.environ.get(f"METAFLOW_{name}"))
        with AirflowClient(endpoint) as client:
            run = runs.get_run(client, dag_id, dag_run_id)
            if run is not None and run.state not in runs.FINISHED:
                runs.end_run(client, run)
    except MetaflowProviderError as error:
        log.warning("The run %s of %s is still running, it could not be ended: %s", dag_run_id, dag_id, error)
        return False
    return True
