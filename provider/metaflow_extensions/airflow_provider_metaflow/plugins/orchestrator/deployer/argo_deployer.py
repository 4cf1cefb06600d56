"""``Deployer("flow.py").argo()``. Loaded at every ``import metaflow``: standard library and Metaflow only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.plugins.argo.argo_workflows_deployer import ArgoWorkflowsDeployer

from .base import OrchestratorDeployer, show_to_stubs

if TYPE_CHECKING:
    from .argo_deployer_objects import ArgoDeployedFlow


class ArgoDeployer(OrchestratorDeployer, ArgoWorkflowsDeployer):
    """
    Deployer implementation for Argo Workflows, with the adapter of this package.

    Parameters
    ----------
    name : str, optional, default None
        Name of the workflow template. The flow name is used instead if this option is not specified.
    """

    TYPE: ClassVar[str | None] = "argo"
    _renamed = {"emit_events": "auto_emit_argo_events"}

    @staticmethod
    def deployed_flow_type() -> type[ArgoDeployedFlow]:
        from .argo_deployer_objects import ArgoDeployedFlow

        return ArgoDeployedFlow

    def create(
        self,
        *,
        authorize: str | None = None,
        generate_new_token: bool = False,
        given_token: str | None = None,
        tags: list[str] | None = None,
        user_namespace: str | None = None,
        project_root: str | None = None,
        only_json: bool = False,
        only_yaml: bool = False,
        max_workers: int = 100,
        workflow_timeout: int | None = None,
        workflow_priority: int | None = None,
        workflow_title: str | None = None,
        workflow_description: str | None = None,
        auto_emit_argo_events: bool = True,
        gang: str = "jobset",
        enable_error_msg_capture: bool = True,
        enable_heartbeat_daemon: bool = False,
        ttl_seconds: int | None = None,
        pod_gc: str | None = None,
        concurrency_policy: str | None = None,
        successful_runs_kept: int | None = None,
        failed_runs_kept: int | None = None,
        notify_on_error: bool = False,
        notify_on_success: bool = False,
        notify_slack_webhook_url: str | None = None,
        notify_pager_duty_integration_key: str | None = None,
        notify_incident_io_api_key: str | None = None,
        notify_secret: str | None = None,
        incident_io_alert_source_config_id: str | None = None,
        incident_io_metadata: list[str] | None = None,
        **kwargs: Any,
    ) -> ArgoDeployedFlow:
        """
        Deploy a new version of the flow to Argo Workflows.

        Parameters
        ----------
        {owner_options}
        {code_options}
        only_json : bool, optional, default False
            Print JSON, and deploy nothing.
        only_yaml : bool, optional, default False
            Print YAML for kubectl, and deploy nothing.
        max_workers : int, optional, default 100
            Maximum number of tasks of a run that run in parallel.
        workflow_timeout : int, optional, default None
            Timeout of a run in seconds.
        workflow_priority : int, optional, default None
            Priority of the workflow, where Argo's controller runs a limited number of workflows.
        workflow_title : str, optional, default None
            Title in Argo's user interface; Markdown.
        workflow_description : str, optional, default None
            Description in Argo's user interface; Markdown.
        auto_emit_argo_events : bool, optional, default True
            Publish an event after each step, and after the run, that other flows can wait for.
        gang : str, optional, default 'jobset'
            What a @parallel step is: `jobset`, or `job` for an Indexed Job where JobSet is not installed.
        enable_error_msg_capture : bool, optional, default True
            Say in notifications what failed first.
        enable_heartbeat_daemon : bool, optional, default False
            Run a container beside the steps that reports to Metaflow's service that the run is alive.
        ttl_seconds : int, optional, default None
            Delete a workflow so many seconds after its end.
        pod_gc : str, optional, default None
            When pods are deleted, e.g. `OnPodSuccess`.
        concurrency_policy : str, optional, default None
            What happens to a run by @schedule while an earlier one runs: `Allow`, `Forbid` or `Replace`.
        successful_runs_kept : int, optional, default None
            How many runs by @schedule are kept that succeeded.
        failed_runs_kept : int, optional, default None
            How many runs by @schedule are kept that failed.
        {notify_options}
        notify_slack_webhook_url : str, optional, default None
            Slack incoming webhook; it is kept in a Kubernetes secret, nowhere else.
        notify_pager_duty_integration_key : str, optional, default None
            PagerDuty Events API V2 key; it is kept in a Kubernetes secret.
        notify_incident_io_api_key : str, optional, default None
            incident.io API V2 key; it is kept in a Kubernetes secret.
        notify_secret : str, optional, default None
            Kubernetes secret that holds them already, under the keys SLACK, PAGER_DUTY and INCIDENT_IO.
        {alert_options}

        Returns
        -------
        ArgoDeployedFlow
            The deployed flow.
        """
        deployed: ArgoDeployedFlow = self._create_given(locals())
        return deployed


_addl_stubgen_modules = [f"{__package__}.base", f"{__package__}.argo_deployer_objects"]
show_to_stubs(ArgoDeployer, f"{__package__}.argo_deployer_objects.ArgoDeployedFlow")
