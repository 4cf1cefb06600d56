"""A run that ``Deployer("flow.py").airflow()`` has started or found."""

from __future__ import annotations

import os
import time
from typing import Any

from metaflow.runner.deployer import TriggeredRun

from airflow_provider_metaflow.rest import dags
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.deployment import open_deployment
from airflow_provider_metaflow.rest.endpoint import configured_endpoint
from airflow_provider_metaflow.rest.runs import DagRun
from metaflow_orchestration.compile.configuration import metaflow_value
from metaflow_orchestration.exceptions import InvalidOptionError

from .base import OrchestratorRun, found_run, resumed
from .calls import run_verb


class AirflowTriggeredRun(OrchestratorRun, TriggeredRun):
    """A run that was triggered on Airflow."""

    @property
    def status(self) -> str | None:
        """
        Get the status of the triggered run.

        Returns
        -------
        str, optional
            PENDING, RUNNING, SUCCEEDED or FAILED; None if Airflow does not know the run.
        """
        run = self._dag_run()
        return None if run is None else run.status

    @property
    def is_running(self) -> bool:
        """
        Check if the run is going on, or waits to start.

        Returns
        -------
        bool
            True if its status is PENDING or RUNNING.
        """
        return self.status in ("PENDING", "RUNNING")

    def wait_for_completion(self, check_interval: int = 5, timeout: int | None = None) -> None:
        """
        Wait for the run to end.

        Parameters
        ----------
        check_interval: int, default: 5
            Seconds between two looks.
        timeout : int, optional, default None
            Maximum time in seconds to wait. If None, waits indefinitely.

        Raises
        ------
        TimeoutError
            If the run does not end within the specified time.
        InvalidOptionError
            If Airflow has no such run, or has it no more.
        """
        start = time.monotonic()
        while (status := self.status) not in ("SUCCEEDED", "FAILED"):
            if status is None:
                raise InvalidOptionError(
                    f"Airflow has no run {self.pathspec}.",
                    hint="It may have been deleted, or belong to another Airflow than METAFLOW_AIRFLOW_URL.",
                )
            if timeout is not None and time.monotonic() - start > timeout:
                raise TimeoutError("The run did not end within the specified timeout.")
            time.sleep(check_interval)

    def terminate(self, **kwargs: Any) -> bool:
        """
        End the run; Airflow kills its running tasks.

        Parameters
        ----------
        authorize : str, optional, default None
            Authorize with a production token.

        Returns
        -------
        bool
            True if the command was successful, False otherwise.
        """
        return run_verb(self.deployer, "terminate", run_id=self._run_id, **kwargs)

    def suspend(self, **kwargs: Any) -> bool:
        """
        Pause the DAG of the run. Airflow holds all runs of a DAG together.

        Parameters
        ----------
        authorize : str, optional, default None
            Authorize with a production token.

        Returns
        -------
        bool
            True if the command was successful, False otherwise.
        """
        return run_verb(self.deployer, "suspend", run_id=self._run_id, **kwargs)

    def unsuspend(self, **kwargs: Any) -> bool:
        """
        Unpause the DAG of the run.

        Parameters
        ----------
        authorize : str, optional, default None
            Authorize with a production token.

        Returns
        -------
        bool
            True if the command was successful, False otherwise.
        """
        return run_verb(self.deployer, "unsuspend", run_id=self._run_id, **kwargs)

    def resume(self, step_to_rerun: str | None = None, **kwargs: Any) -> AirflowTriggeredRun:
        """
        Start a run that clones the finished tasks of this one, and runs the rest with the deployed code.

        Parameters
        ----------
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        **kwargs : Any
            As for `trigger` of a deployed flow; all other parameters are those of this run.

        Returns
        -------
        AirflowTriggeredRun
            The new run.
        """
        return resumed(AirflowTriggeredRun, self.deployer, self._run_id, step_to_rerun, kwargs)

    def _dag_run(self) -> DagRun | None:
        with client_of(self.deployer) as client:
            try:
                return open_deployment(client, self.deployer.name).find(self.pathspec)
            except (dags.DagNotReadyError, ValueError):
                return None


def client_of(deployer: Any) -> AirflowClient:
    """Return a client of the Airflow that the deployer's own environment names.

    :param deployer: Metaflow's deployer of the flow.
    """
    given = {**os.environ, **(deployer.env or {})}

    def value(name: str) -> str | None:
        return given.get("METAFLOW_%s" % name) or metaflow_value(name)

    return AirflowClient(configured_endpoint(value))


def triggered_run(deployer: Any, run_id: str) -> AirflowTriggeredRun:
    """Return a run that is known by its id.

    :param deployer: Metaflow's deployer of the flow.
    :param run_id: Metaflow run id, alone or behind the flow's name and a slash.
    """
    return found_run(AirflowTriggeredRun, deployer, deployer.name, run_id)
