"""What ``Deployer(…).argo().create()`` returns: Metaflow's own objects for Argo, over our command group."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from metaflow import Deployer
from metaflow.plugins.argo.argo_workflows_deployer_objects import ArgoWorkflowsDeployedFlow, ArgoWorkflowsTriggeredRun

from .base import OrchestratorFlow, OrchestratorRun, found_run, resumed, started


class ArgoTriggeredRun(OrchestratorRun, ArgoWorkflowsTriggeredRun):
    """A run of a flow on Argo Workflows."""

    def resume(self, step_to_rerun: str | None = None, **kwargs: Any) -> ArgoTriggeredRun:
        """
        Start a run that clones the finished tasks of this one, and runs the rest with the deployed code.

        Parameters
        ----------
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        **kwargs : Any
            `Parameters` of the flow; all others are those of this run.

        Returns
        -------
        ArgoTriggeredRun
            The new run.
        """
        return resumed(ArgoTriggeredRun, self.deployer, self._run_id, step_to_rerun, kwargs)


class ArgoDeployedFlow(OrchestratorFlow, ArgoWorkflowsDeployedFlow):
    """A flow that is deployed to Argo Workflows."""

    TYPE: ClassVar[str | None] = "argo"

    @classmethod
    def from_deployment(cls, identifier: str, metadata: str | None = None) -> ArgoDeployedFlow:
        """
        Return a deployed flow by the name of its workflow template.

        Parameters
        ----------
        identifier : str
            Name of the workflow template.
        metadata : str, optional, default None
            Metadata provider of the flow.

        Returns
        -------
        ArgoDeployedFlow
            The deployed flow.
        """
        stock = super().from_deployment(identifier, metadata).deployer
        env = {key: value for key, value in stock.env_vars.items() if os.environ.get(key) != value}
        own = Deployer(stock.flow_file, env=env, **stock.top_level_kwargs).argo(**stock.deployer_kwargs)
        own.name, own.flow_name, own.metadata = stock.name, stock.flow_name, stock.metadata
        return cls(deployer=own)

    @classmethod
    def get_triggered_run(cls, identifier: str, run_id: str, metadata: str | None = None) -> ArgoTriggeredRun:
        """
        Return a run by its id.

        Parameters
        ----------
        identifier : str
            Name of the workflow template.
        run_id : str
            Id of the run.
        metadata : str, optional, default None
            Metadata provider of the flow.

        Returns
        -------
        ArgoTriggeredRun
            The run.
        """
        deployer = cls.from_deployment(identifier, metadata).deployer
        return found_run(ArgoTriggeredRun, deployer, identifier, run_id)

    def trigger(self, **kwargs: Any) -> ArgoTriggeredRun:
        """
        Start a run; takes the flow's parameters.

        Returns
        -------
        ArgoTriggeredRun
            The run.
        """
        return started(ArgoTriggeredRun, self.deployer, "trigger", kwargs)

    def resume(self, origin_run_id: str, step_to_rerun: str | None = None, **kwargs: Any) -> ArgoTriggeredRun:
        """
        Start a run that clones the finished tasks of another run, and runs the rest with the deployed code.

        Parameters
        ----------
        origin_run_id : str
            The other run.
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        **kwargs : Any
            `Parameters` of the flow; all others are those of the other run.

        Returns
        -------
        ArgoTriggeredRun
            The new run.
        """
        return resumed(ArgoTriggeredRun, self.deployer, origin_run_id, step_to_rerun, kwargs)
