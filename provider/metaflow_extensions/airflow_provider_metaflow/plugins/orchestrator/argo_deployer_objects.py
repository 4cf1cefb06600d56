"""What ``Deployer(…).argo().create()`` returns: Metaflow's own objects for Argo, over our command group."""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar

from metaflow.plugins.argo.argo_workflows_deployer_objects import ArgoWorkflowsDeployedFlow, ArgoWorkflowsTriggeredRun

from .argo_deployer import ArgoDeployer
from .deployer_calls import started_run


class ArgoTriggeredRun(ArgoWorkflowsTriggeredRun):
    """A run of a flow on Argo Workflows."""

    def resume(self, step_to_rerun: str | None = None) -> ArgoTriggeredRun:
        """
        Start a run that takes over what this one has finished.

        Parameters
        ----------
        step_to_rerun : str, optional, default None
            Run this step and all that follow it anew.

        Returns
        -------
        ArgoTriggeredRun
            The new run.
        """
        options = {"step_to_rerun": step_to_rerun} if step_to_rerun else {}
        content = started_run(self.deployer, "resume", run_id=self.pathspec.split("/")[1], **options)
        return ArgoTriggeredRun(deployer=self.deployer, content=content)


class ArgoDeployedFlow(ArgoWorkflowsDeployedFlow):
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
        own = ArgoDeployer(
            deployer_kwargs=stock.deployer_kwargs,
            flow_file=stock.flow_file,
            env={key: value for key, value in stock.env_vars.items() if os.environ.get(key) != value},
            **stock.top_level_kwargs,
        )
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
        pathspec = "%s/%s" % (deployer.flow_name, run_id)
        content = {"name": identifier, "metadata": deployer.metadata, "pathspec": pathspec}
        return ArgoTriggeredRun(deployer=deployer, content=json.dumps(content))

    def trigger(self, **kwargs: Any) -> ArgoTriggeredRun:
        """
        Start a run; takes the flow's parameters.

        Returns
        -------
        ArgoTriggeredRun
            The run.
        """
        return ArgoTriggeredRun(deployer=self.deployer, content=started_run(self.deployer, "trigger", **kwargs))
