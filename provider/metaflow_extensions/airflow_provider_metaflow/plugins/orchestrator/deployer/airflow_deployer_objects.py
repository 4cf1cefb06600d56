"""What ``Deployer("flow.py").airflow()`` hands out. Loaded when a flow is deployed or looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from metaflow.exception import MetaflowException
from metaflow.runner.deployer import DeployedFlow

from airflow_provider_metaflow.rest import dags
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.deployment import DeployedDag, open_deployment
from airflow_provider_metaflow.rest.endpoint import configured_endpoint
from metaflow_orchestration.compile.configuration import metaflow_value
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.model import Parameter, ParameterType

from . import published
from .airflow_triggered_run import AirflowTriggeredRun, client_of, triggered_run
from .base import OrchestratorFlow, resumed, started
from .calls import run_verb
from .stand_in import stand_in

_TYPES = {
    ParameterType.INT: "int",
    ParameterType.FLOAT: "float",
    ParameterType.BOOL: "bool",
    ParameterType.STR: "str",
    ParameterType.JSON: "JSON",
    ParameterType.FILE: "FilePath",
}


class AirflowDeployedFlow(OrchestratorFlow, DeployedFlow):
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
        return started(AirflowTriggeredRun, self.deployer, "trigger", kwargs)

    def resume(self, origin_run_id: str, step_to_rerun: str | None = None, **kwargs: Any) -> AirflowTriggeredRun:
        """
        Start a run that clones the finished tasks of another run, and runs the rest with the deployed code.

        Parameters
        ----------
        origin_run_id : str
            The other run.
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        **kwargs : Any
            As for `trigger`; all other parameters are those of the other run.

        Returns
        -------
        AirflowTriggeredRun
            The triggered run.
        """
        return resumed(AirflowTriggeredRun, self.deployer, origin_run_id, step_to_rerun, kwargs)

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
        done = run_verb(self.deployer, "delete", **kwargs)
        if done:
            published.note_deleted(self.deployer.name, kwargs.get("file"))
        return done

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
        with client_of(self.deployer) as client:
            start = open_deployment(client, self.deployer.name).start_step
            for run in runs.list_runs(client, self.deployer.name, chosen):
                yield triggered_run(self.deployer, runs.with_reported_id(client, run, start).run_id)

    @property
    def production_token(self) -> str | None:
        """
        Get the production token of the deployed flow.

        Returns
        -------
        str, optional
            The token, None if this machine's datastore does not hold it.
        """
        return _stored_token(self.deployer)

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
                deployed = published.open_published(client, identifier)
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
        with AirflowClient(configured_endpoint(metaflow_value)) as client:
            try:
                # Also of a deployment that was deleted: runs and results stay.
                deployed = open_deployment(client, identifier)
            except MetaflowProviderError as error:
                raise MetaflowException(str(error)) from None
        return triggered_run(cls._from_record(deployed, metadata).deployer, run_id)


def _stored_token(deployer: Any) -> str | None:
    """Return the production token of a deployment from the datastore that its deployer is set to."""
    from metaflow.datastore import FlowDataStore
    from metaflow.metaflow_config import DEFAULT_DATASTORE
    from metaflow.plugins import DATASTORES

    from metaflow_orchestration.compile.deployment.tokens import stored_token

    kind = deployer.top_level_kwargs.get("datastore") or DEFAULT_DATASTORE
    storage = next(one for one in DATASTORES if kind == one.TYPE)
    root = deployer.top_level_kwargs.get("datastore_root") or storage.get_datastore_root_from_config(
        lambda *_, **__: None, create_on_absent=False
    )
    if root is None:
        return None
    store = FlowDataStore(deployer.flow_name, environment=None, storage_impl=storage, ds_root=root)
    return stored_token(store._storage_impl, deployer.name)


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
