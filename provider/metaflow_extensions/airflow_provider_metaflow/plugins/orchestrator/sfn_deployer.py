"""``Deployer("flow.py").sfn()``. Loaded at every ``import metaflow``: standard library and Metaflow only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.plugins.aws.step_functions.step_functions_deployer import StepFunctionsDeployer

if TYPE_CHECKING:
    from .sfn_deployer_objects import SfnDeployedFlow


class SfnDeployer(StepFunctionsDeployer):
    """
    Deployer implementation for AWS Step Functions, with the adapter of this package.

    Parameters
    ----------
    name : str, optional, default None
        Name of the state machine. The flow name is used instead if this option is not specified.
    """

    TYPE: ClassVar[str | None] = "sfn"

    @staticmethod
    def deployed_flow_type() -> type[SfnDeployedFlow]:
        from .sfn_deployer_objects import SfnDeployedFlow

        return SfnDeployedFlow

    def create(self, **kwargs: Any) -> SfnDeployedFlow:
        """
        Create a new deployment on AWS Step Functions; takes the options of ``sfn create``.

        Returns
        -------
        SfnDeployedFlow
            The deployed flow.
        """
        from .sfn_deployer_objects import SfnDeployedFlow

        created: SfnDeployedFlow = self._create(SfnDeployedFlow, **kwargs)
        return created
