"""``Deployer("flow.py").argo()``. Loaded at every ``import metaflow``: standard library and Metaflow only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.plugins.argo.argo_workflows_deployer import ArgoWorkflowsDeployer

if TYPE_CHECKING:
    from .argo_deployer_objects import ArgoDeployedFlow


class ArgoDeployer(ArgoWorkflowsDeployer):
    """
    Deployer implementation for Argo Workflows, with the adapter of this package.

    Parameters
    ----------
    name : str, optional, default None
        Name of the workflow template. The flow name is used instead if this option is not specified.
    """

    TYPE: ClassVar[str | None] = "argo"

    @staticmethod
    def deployed_flow_type() -> type[ArgoDeployedFlow]:
        from .argo_deployer_objects import ArgoDeployedFlow

        return ArgoDeployedFlow

    def create(self, **kwargs: Any) -> ArgoDeployedFlow:
        """
        Create a new deployment on Argo Workflows; takes the options of ``argo create``.

        Returns
        -------
        ArgoDeployedFlow
            The deployed flow.
        """
        from .argo_deployer_objects import ArgoDeployedFlow

        created: ArgoDeployedFlow = self._create(ArgoDeployedFlow, **kwargs)
        return created
