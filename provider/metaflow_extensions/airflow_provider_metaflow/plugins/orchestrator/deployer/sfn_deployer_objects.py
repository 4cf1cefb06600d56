"""What ``Deployer(…).sfn().create()`` returns: Metaflow's own objects for Step Functions, over our command group."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.plugins.aws.step_functions.step_functions_deployer_objects import (
    StepFunctionsDeployedFlow,
    StepFunctionsTriggeredRun,
)

from .base import OrchestratorFlow, OrchestratorRun, found_run, resumed, started
from .stand_in import stand_in

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.runs.runs import SfnRuns

_STATES = ("RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


class SfnTriggeredRun(OrchestratorRun, StepFunctionsTriggeredRun):
    """A run of a flow on AWS Step Functions."""

    @property
    def status(self) -> str:
        """
        Status of the run: RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED.

        Returns
        -------
        str
            The status.
        """
        return str(_runs(self.deployer).find(self._run_id)["status"])

    @property
    def is_running(self) -> bool:
        """
        Whether the run has not ended.

        Returns
        -------
        bool
            True while it runs.
        """
        return self.status == "RUNNING"

    def wait_for_completion(self, check_interval: int = 5, timeout: int | None = None) -> None:
        """
        Wait until the run has ended.

        Parameters
        ----------
        check_interval : int, default 5
            Seconds between two looks.
        timeout : int, optional, default None
            Longest time to wait, in seconds.

        Raises
        ------
        TimeoutError
            If it has not ended by then.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.is_running:
            if end is not None and time.monotonic() > end:
                raise TimeoutError("The run %s has not ended in %s s." % (self.pathspec, timeout))
            time.sleep(check_interval)

    def resume(self, step_to_rerun: str | None = None, redrive: bool = False, **kwargs: Any) -> SfnTriggeredRun:
        """
        Start a run that clones the finished tasks of this one, and runs the rest with the deployed code.

        Parameters
        ----------
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        redrive : bool, default False
            Go on with the same run at the states that failed.
        **kwargs : Any
            `Parameters` of the flow; all others are those of this run.

        Returns
        -------
        SfnTriggeredRun
            The new run.
        """
        return resumed(
            SfnTriggeredRun, self.deployer, self._run_id, step_to_rerun, _with_redrive(kwargs, redrive=redrive)
        )


class SfnDeployedFlow(OrchestratorFlow, StepFunctionsDeployedFlow):
    """A flow that is deployed to AWS Step Functions."""

    TYPE: ClassVar[str | None] = "sfn"

    @classmethod
    def list_deployed_flows(cls, flow_name: str | None = None) -> Iterator[SfnDeployedFlow]:
        """
        List the state machines that hold flows.

        Parameters
        ----------
        flow_name : str, optional, default None
            Name of a flow; all flows if it is not given.

        Yields
        ------
        SfnDeployedFlow
            A deployed flow.
        """
        from metaflow_adapters.step_functions.aws.client import Aws
        from metaflow_adapters.step_functions.deploy.deployments import deployed_machines

        for name in deployed_machines(Aws(), flow_name):
            yield cls.from_deployment(name)

    @classmethod
    def from_deployment(cls, identifier: str, metadata: str | None = None) -> SfnDeployedFlow:
        """
        Return a deployed flow by the name of its state machine.

        Parameters
        ----------
        identifier : str
            Name of the state machine.
        metadata : str, optional, default None
            Metadata provider of the flow.

        Returns
        -------
        SfnDeployedFlow
            The deployed flow.
        """
        from metaflow_adapters.step_functions.aws.client import Aws
        from metaflow_adapters.step_functions.runs.runs import SfnRuns

        _, said = SfnRuns(Aws(), identifier, identifier).machine()
        own = stand_in(
            "sfn",
            identifier,
            flow=said.get("metaflow.flow_name", identifier),
            owner=said["metaflow.owner"],
            parameters=json.loads(said.get("metaflow.parameters", "{}")),
            project=said.get("metaflow.project_name"),
            branch=said.get("metaflow.branch_name"),
            metadata=metadata,
        )
        return cls(deployer=own)

    @classmethod
    def get_triggered_run(cls, identifier: str, run_id: str, metadata: str | None = None) -> SfnTriggeredRun:
        """
        Return a run by its id.

        Parameters
        ----------
        identifier : str
            Name of the state machine.
        run_id : str
            Id of the run.
        metadata : str, optional, default None
            Metadata provider of the flow.

        Returns
        -------
        SfnTriggeredRun
            The run.
        """
        return _triggered(cls.from_deployment(identifier, metadata).deployer, run_id)

    @property
    def production_token(self) -> str | None:
        """
        Production token of the deployed flow.

        Returns
        -------
        str, optional
            The token, None if it is not deployed.
        """
        from metaflow_orchestration.exceptions import InvalidOptionError

        try:
            return _runs(self.deployer).machine()[1].get("metaflow.production_token")
        except InvalidOptionError:
            return None

    def list_runs(self, states: list[str] | None = None) -> list[SfnTriggeredRun]:
        """
        List runs of the deployed flow, the newest first.

        Parameters
        ----------
        states : list[str], optional, default None
            Statuses: RUNNING, SUCCEEDED, FAILED, TIMED_OUT, ABORTED; all if not given.

        Returns
        -------
        list[SfnTriggeredRun]
            The runs.

        Raises
        ------
        ValueError
            If a status is unknown or given twice.
        """
        states = states or []
        if not set(states) <= set(_STATES):
            raise ValueError("Invalid states found: %s. Valid states are: %s" % (set(states) - set(_STATES), _STATES))
        if len(states) != len(set(states)):
            raise ValueError("Duplicate states are not allowed")
        return [_triggered(self.deployer, "sfn-%s" % one["name"]) for one in _runs(self.deployer).every(states)]

    def trigger(self, **kwargs: Any) -> SfnTriggeredRun:
        """
        Start a run; takes the flow's parameters.

        Returns
        -------
        SfnTriggeredRun
            The run.
        """
        return started(SfnTriggeredRun, self.deployer, "trigger", kwargs)

    def resume(
        self, origin_run_id: str, step_to_rerun: str | None = None, redrive: bool = False, **kwargs: Any
    ) -> SfnTriggeredRun:
        """
        Start a run that clones the finished tasks of another run, and runs the rest with the deployed code.

        Parameters
        ----------
        origin_run_id : str
            The other run.
        step_to_rerun : str, optional, default None
            Run this step and all after it again, even if they finished.
        redrive : bool, default False
            Go on with the same run at the states that failed.
        **kwargs : Any
            `Parameters` of the flow; all others are those of the other run.

        Returns
        -------
        SfnTriggeredRun
            The new run.
        """
        options = _with_redrive(kwargs, redrive=redrive)
        return resumed(SfnTriggeredRun, self.deployer, origin_run_id, step_to_rerun, options)


def _runs(deployer: Any) -> SfnRuns:
    from metaflow_adapters.step_functions.aws.client import Aws
    from metaflow_adapters.step_functions.runs.runs import SfnRuns

    return SfnRuns(Aws(), deployer.name, deployer.flow_name)


def _triggered(deployer: Any, run_id: str) -> SfnTriggeredRun:
    return found_run(SfnTriggeredRun, deployer, run_id, run_id)


def _with_redrive(options: dict[str, Any], *, redrive: bool) -> dict[str, Any]:
    return {**options, **({"redrive": True} if redrive else {})}
