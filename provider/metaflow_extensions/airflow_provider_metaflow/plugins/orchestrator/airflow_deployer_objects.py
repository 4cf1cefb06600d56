"""What ``Deployer("flow.py").airflow()`` hands out. Loaded when a flow is deployed or looked up."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from metaflow.exception import MetaflowException
from metaflow.runner.deployer import DeployedFlow, TriggeredRun
from metaflow.runner.utils import get_lower_level_group, handle_timeout, temporary_fifo

from airflow_provider_metaflow.exceptions import MetaflowProviderError
from airflow_provider_metaflow.flow.configuration import metaflow_value
from airflow_provider_metaflow.graph.model import Parameter, ParameterType
from airflow_provider_metaflow.rest import dags
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.deployment import DeployedDag, open_deployment
from airflow_provider_metaflow.rest.endpoint import configured_endpoint
from airflow_provider_metaflow.rest.runs import DagRun

from .deployer_stand_in import stand_in

_TYPES = {
    ParameterType.INT: "int",
    ParameterType.FLOAT: "float",
    ParameterType.BOOL: "bool",
    ParameterType.STR: "str",
    ParameterType.JSON: "JSON",
    ParameterType.FILE: "FilePath",
}


class AirflowTriggeredRun(TriggeredRun):
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
        """
        start = time.monotonic()
        while self.is_running:
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
        return _run_verb(self.deployer, "terminate", run_id=self._run_id, **kwargs)

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
        return _run_verb(self.deployer, "suspend", run_id=self._run_id, **kwargs)

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
        return _run_verb(self.deployer, "unsuspend", run_id=self._run_id, **kwargs)

    @property
    def _run_id(self) -> str:
        return str(self.pathspec).split("/")[1]

    def _dag_run(self) -> DagRun | None:
        with _client(self.deployer) as client:
            try:
                return open_deployment(client, self.deployer.name).find(self.pathspec)
            except (dags.DagNotReadyError, ValueError):
                return None


class AirflowDeployedFlow(DeployedFlow):
    """A flow that is deployed to Airflow."""

    TYPE: ClassVar[str | None] = "airflow"

    def trigger(self, **kwargs: Any) -> AirflowTriggeredRun:
        """
        Start a run of the deployed flow.

        Parameters
        ----------
        unpause : bool, optional, default False
            Unpause the DAG if it is paused.
        logical_date : str, optional, default None
            Logical date of the run, in ISO form.
        note : str, optional, default None
            Note that Airflow shows beside the run.
        **kwargs : Any
            `Parameters` of the flow.

        Returns
        -------
        AirflowTriggeredRun
            The triggered run.
        """
        return self._start("trigger", **kwargs)

    def resume(self, origin_run_id: str, step_to_rerun: str | None = None, **kwargs: Any) -> AirflowTriggeredRun:
        """
        Start a run that takes over the finished tasks of another run, and runs the rest with the deployed code.

        Parameters
        ----------
        origin_run_id : str
            The other run.
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        **kwargs : Any
            As for `trigger`; parameters default to those of the other run.

        Returns
        -------
        AirflowTriggeredRun
            The triggered run.
        """
        if step_to_rerun is not None:
            kwargs["step_to_rerun"] = step_to_rerun
        with _client(self.deployer) as client:
            deployed = open_deployment(client, self.deployer.name)
            conf = deployed.resume_conf(origin_run_id, step_to_rerun, {})
        for parameter in deployed.record.parameters:
            # Metaflow's API insists on required parameters; their values are those of the other run.
            if parameter.required and parameter.name in conf:
                kwargs.setdefault(parameter.name.replace("-", "_"), conf[parameter.name])
        return self._start("resume", origin_run_id=origin_run_id, **kwargs)

    def delete(self, **kwargs: Any) -> bool:
        """
        Delete the deployment: the files that `create` wrote. Runs and results stay.

        Parameters
        ----------
        authorize : str, optional, default None
            Authorize with a production token.

        Returns
        -------
        bool
            True if the command was successful, False otherwise.
        """
        file = getattr(self.deployer, "additional_info", {}).get("file")
        if file is not None:
            kwargs.setdefault("file", file)
        return _run_verb(self.deployer, "delete", **kwargs)

    def list_runs(self, states: list[str] | None = None) -> Iterator[AirflowTriggeredRun]:
        """
        List the runs of the deployed flow, the newest first.

        Parameters
        ----------
        states : List[str], optional, default None
            Statuses to choose: PENDING, RUNNING, SUCCEEDED, FAILED.

        Yields
        ------
        AirflowTriggeredRun
            The runs.
        """
        from airflow_provider_metaflow.rest import runs

        by_status = {status: state for state, status in runs.STATUS.items()}
        chosen = tuple(by_status[status] for status in states or ())
        with _client(self.deployer) as client:
            for run in runs.list_runs(client, self.deployer.name, chosen):
                yield _triggered(self.deployer, run.run_id)

    @property
    def production_token(self) -> str | None:
        """
        Get the production token of the deployed flow.

        Returns
        -------
        str, optional
            The token, None if this machine's datastore does not hold it.
        """
        from metaflow.datastore import FlowDataStore
        from metaflow.metaflow_config import DEFAULT_DATASTORE
        from metaflow.plugins import DATASTORES

        from airflow_provider_metaflow.flow.tokens import stored_token

        kind = self.deployer.top_level_kwargs.get("datastore") or DEFAULT_DATASTORE
        storage = next(one for one in DATASTORES if kind == one.TYPE)
        root = self.deployer.top_level_kwargs.get("datastore_root") or storage.get_datastore_root_from_config(
            lambda *_, **__: None, create_on_absent=False
        )
        if root is None:
            return None
        store = FlowDataStore(self.deployer.flow_name, environment=None, storage_impl=storage, ds_root=root)
        return stored_token(store._storage_impl, self.deployer.name)

    @classmethod
    def from_deployment(cls, identifier: str, metadata: str | None = None) -> AirflowDeployedFlow:
        """
        Get the flow that is deployed under a name, without its flow file.

        Parameters
        ----------
        identifier : str
            Airflow DAG id.
        metadata : str, optional, default None
            Metadata provider of its runs.

        Returns
        -------
        AirflowDeployedFlow
            The deployed flow.
        """
        with AirflowClient(configured_endpoint(metaflow_value)) as client:
            try:
                deployed = open_deployment(client, identifier)
            except MetaflowProviderError as error:
                raise MetaflowException(str(error)) from None
        return cls._from_record(deployed, metadata)

    @classmethod
    def _from_record(cls, deployed: DeployedDag, metadata: str | None) -> AirflowDeployedFlow:
        record = deployed.record
        impl = stand_in(
            "airflow",
            deployed.name,
            flow=record.flow,
            owner=record.owner,
            parameters={one.name: _one_parameter(one) for one in record.parameters},
            project=record.project,
            branch=record.branch,
            metadata=metadata,
        )
        return cls(deployer=impl)

    @classmethod
    def list_deployed_flows(cls, flow_name: str | None = None) -> Iterator[AirflowDeployedFlow]:
        """
        List the flows that are deployed to Airflow.

        Parameters
        ----------
        flow_name : str, optional, default None
            Only deployments of this flow.

        Yields
        ------
        AirflowDeployedFlow
            The deployed flows.
        """
        with AirflowClient(configured_endpoint(metaflow_value)) as client:
            found = [
                DeployedDag(client, dag, dag.record)
                for dag in dags.list_dags(client)
                if dag.record is not None and not dag.is_stale and flow_name in (None, dag.record.flow)
            ]
        for one in found:
            yield cls._from_record(one, None)

    @classmethod
    def get_triggered_run(cls, identifier: str, run_id: str, metadata: str | None = None) -> AirflowTriggeredRun:
        """
        Get a run of a deployed flow.

        Parameters
        ----------
        identifier : str
            Airflow DAG id.
        run_id : str
            Run id.
        metadata : str, optional, default None
            Metadata provider of the run.

        Returns
        -------
        AirflowTriggeredRun
            The run.
        """
        return _triggered(cls.from_deployment(identifier, metadata).deployer, run_id)

    def _start(self, verb: str, **kwargs: Any) -> AirflowTriggeredRun:
        deployer = self.deployer
        with temporary_fifo() as (path, descriptor):
            command = _group(deployer, verb)(deployer_attribute_file=path, **kwargs)
            pid = deployer.spm.run_command(
                [sys.executable, *command], env=deployer.env_vars, cwd=deployer.cwd, show_output=deployer.show_output
            )
            process = deployer.spm.get(pid)
            content = handle_timeout(descriptor, process, deployer.file_read_timeout)
            process.sync_wait()
            if process.process.returncode == 0:
                return AirflowTriggeredRun(deployer=deployer, content=content)
        raise RuntimeError("Error on %s of %s on %s" % (verb, deployer.name, deployer.TYPE))


def _group(deployer: Any, verb: str) -> Any:
    group = get_lower_level_group(deployer.api, deployer.top_level_kwargs, deployer.TYPE, deployer.deployer_kwargs)
    return getattr(group, verb)


def _run_verb(deployer: Any, verb: str, **kwargs: Any) -> bool:
    pid = deployer.spm.run_command(
        [sys.executable, *_group(deployer, verb)(**kwargs)],
        env=deployer.env_vars,
        cwd=deployer.cwd,
        show_output=deployer.show_output,
    )
    process = deployer.spm.get(pid)
    process.sync_wait()
    return bool(process.process.returncode == 0)


def _client(deployer: Any) -> AirflowClient:
    """Return a client of the Airflow that the deployer's own environment names."""
    given = {**os.environ, **(deployer.env or {})}

    def value(name: str) -> str | None:
        return given.get("METAFLOW_%s" % name) or metaflow_value(name)

    return AirflowClient(configured_endpoint(value))


def _triggered(deployer: Any, run_id: str) -> AirflowTriggeredRun:
    content = {
        "name": deployer.name,
        "metadata": deployer.metadata,
        "pathspec": "%s/%s" % (deployer.flow_name, run_id.rpartition("/")[2]),
    }
    return AirflowTriggeredRun(deployer=deployer, content=json.dumps(content))


def _one_parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "python_var_name": one.variable,
        "type": _TYPES[one.type],
        "description": one.help,
        "is_required": one.required,
        "is_text": one.is_text,
        "encoding": one.encoding or "utf-8",
    }
