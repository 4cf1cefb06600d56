"""``Deployer("flow.py").sfn()``. Loaded at every ``import metaflow``: standard library and Metaflow only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.plugins.aws.step_functions.step_functions_deployer import StepFunctionsDeployer

from .base import OrchestratorDeployer, show_to_stubs

if TYPE_CHECKING:
    from .sfn_deployer_objects import SfnDeployedFlow


class SfnDeployer(OrchestratorDeployer, StepFunctionsDeployer):
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

    def create(
        self,
        *,
        authorize: str | None = None,
        generate_new_token: bool = False,
        given_token: str | None = None,
        tags: list[str] | None = None,
        aws_batch_tags: list[str] | None = None,
        user_namespace: str | None = None,
        project_root: str | None = None,
        only_json: bool = False,
        max_workers: int | None = None,
        workflow_timeout: int | None = None,
        log_execution_history: bool = False,
        use_distributed_map: bool | None = None,
        compress_state_machine: bool = False,
        gang_poll_seconds: int = 30,
        share_identifier: str | None = None,
        batch_platform: str | None = None,
        notify_on_error: bool = False,
        notify_on_success: bool = False,
        notify_sns_topic: str | None = None,
        notify_slack_webhook_url: str | None = None,
        notify_pager_duty_integration_key: str | None = None,
        notify_incident_io_api_key: str | None = None,
        notify_secret: str | None = None,
        incident_io_alert_source_config_id: str | None = None,
        incident_io_metadata: list[str] | None = None,
        **kwargs: Any,
    ) -> SfnDeployedFlow:
        """
        Deploy a new version of the flow to AWS Step Functions.

        Parameters
        ----------
        {owner_options}
        aws_batch_tags : List[str], optional, default None
            Tags of all jobs, each in the form KEY=VALUE.
        {code_options}
        only_json : bool, optional, default False
            Print the definition, deploy nothing and ask AWS nothing.
        max_workers : int, optional, default None
            Maximum number of tasks of a run that run in parallel.
        workflow_timeout : int, optional, default None
            Timeout of a run in seconds.
        log_execution_history : bool, optional, default False
            Log the history of runs to METAFLOW_SFN_EXECUTION_LOG_GROUP_ARN.
        use_distributed_map : bool, optional, default None
            Make all maps distributed, or none; by default those that are in no other map.
        compress_state_machine : bool, optional, default False
            Accepted for Metaflow's own deployer; the state machine is small anyway.
        gang_poll_seconds : int, optional, default 30
            Seconds between two looks at the job of a @parallel step.
        share_identifier : str, optional, default None
            Share of the jobs in queues with a scheduling policy; by default AWS is asked, and it is metaflow.
        batch_platform : str, optional, default None
            Type of the compute environments, `ec2` or `fargate`; by default AWS is asked.
        {notify_options}
        notify_sns_topic : str, optional, default None
            ARN of a topic of Amazon SNS.
        notify_slack_webhook_url : str, optional, default None
            Slack incoming webhook; it is kept in AWS Secrets Manager, nowhere else.
        notify_pager_duty_integration_key : str, optional, default None
            PagerDuty Events API V2 key; it is kept in AWS Secrets Manager.
        notify_incident_io_api_key : str, optional, default None
            incident.io API V2 key; it is kept in AWS Secrets Manager.
        notify_secret : str, optional, default None
            ARN of a secret that holds them already, under the keys SLACK, PAGER_DUTY and INCIDENT_IO.
        {alert_options}

        Returns
        -------
        SfnDeployedFlow
            The deployed flow.
        """
        deployed: SfnDeployedFlow = self._create_given(locals())
        return deployed


_addl_stubgen_modules = [f"{__package__}.base", f"{__package__}.sfn_deployer_objects"]
show_to_stubs(SfnDeployer, f"{__package__}.sfn_deployer_objects.SfnDeployedFlow")
