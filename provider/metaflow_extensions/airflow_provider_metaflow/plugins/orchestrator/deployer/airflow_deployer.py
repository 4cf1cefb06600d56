"""``Deployer("flow.py").airflow()``. Loaded at every ``import metaflow``: standard library and Metaflow only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.runner.deployer_impl import DeployerImpl

from .base import OrchestratorDeployer, show_to_stubs

if TYPE_CHECKING:
    from .airflow_deployer_objects import AirflowDeployedFlow


class AirflowDeployer(OrchestratorDeployer, DeployerImpl):
    """
    Deployer implementation for Apache Airflow.

    Parameters
    ----------
    name : str, optional, default None
        Airflow DAG id. The flow name is used instead if this option is not specified.
    """

    TYPE: ClassVar[str | None] = "airflow"
    _renamed = {"emit_events": "auto_emit_events"}

    def __init__(self, deployer_kwargs: dict[str, Any], **kwargs: Any) -> None:
        self._deployer_kwargs = deployer_kwargs
        super().__init__(**kwargs)

    @property
    def deployer_kwargs(self) -> dict[str, Any]:
        return self._deployer_kwargs

    @staticmethod
    def deployed_flow_type() -> type[AirflowDeployedFlow]:
        from .airflow_deployer_objects import AirflowDeployedFlow

        return AirflowDeployedFlow

    def create(
        self,
        file: str | None = None,
        *,
        authorize: str | None = None,
        generate_new_token: bool = False,
        given_token: str | None = None,
        tags: list[str] | None = None,
        user_namespace: str | None = None,
        project_root: str | None = None,
        max_workers: int = 100,
        workflow_timeout: int | None = None,
        worker_pool: str | None = None,
        is_paused_upon_creation: bool | None = None,
        auto_emit_events: bool = True,
        emit_step_events: bool = False,
        notify_on_error: bool = False,
        notify_on_success: bool = False,
        notify_slack_conn_id: str | None = None,
        notify_slack_webhook_url: str | None = None,
        notify_pager_duty_conn_id: str | None = None,
        notify_pager_duty_integration_key: str | None = None,
        notify_incident_io_conn_id: str | None = None,
        notify_incident_io_api_key: str | None = None,
        incident_io_alert_source_config_id: str | None = None,
        incident_io_metadata: list[str] | None = None,
        **kwargs: Any,
    ) -> AirflowDeployedFlow:
        """
        Deploy a new version of the flow to Airflow: write a DAG file and its manifest.

        Parameters
        ----------
        file : str, optional, default None
            Where the DAG file goes: a file, a folder, or a path in an object store; by default
            METAFLOW_AIRFLOW_DAGS_FOLDER.
        {owner_options}
        {code_options}
        max_workers : int, optional, default 100
            Maximum number of tasks of a run that run in parallel.
        workflow_timeout : int, optional, default None
            Timeout of a run in seconds.
        worker_pool : str, optional, default None
            Airflow pool of all steps.
        is_paused_upon_creation : bool, optional, default None
            Whether the DAG is paused when Airflow first parses it; by default as Airflow is configured.
        auto_emit_events : bool, optional, default True
            Publish an event after each run that other flows can wait for, as @trigger_on_finish does.
        emit_step_events : bool, optional, default False
            Publish an event after each task of each step, too.
        {notify_options}
        notify_slack_conn_id : str, optional, default None
            Airflow connection with a Slack incoming webhook.
        notify_slack_webhook_url : str, optional, default None
            The webhook itself; it is kept in a connection of Airflow, nowhere else.
        notify_pager_duty_conn_id : str, optional, default None
            Airflow connection with a PagerDuty key.
        notify_pager_duty_integration_key : str, optional, default None
            The PagerDuty Events API V2 key itself; it is kept in a connection of Airflow.
        notify_incident_io_conn_id : str, optional, default None
            Airflow connection with an incident.io key.
        notify_incident_io_api_key : str, optional, default None
            The incident.io API V2 key itself; it is kept in a connection of Airflow.
        {alert_options}

        Returns
        -------
        AirflowDeployedFlow
            The deployed flow.
        """
        deployed: AirflowDeployedFlow = self._create_given(locals())
        from .published import note_created

        note_created(self.name, getattr(self, "additional_info", {}).get("file"))
        return deployed


_addl_stubgen_modules = [
    f"{__package__}.base",
    f"{__package__}.airflow_deployer_objects",
    f"{__package__}.airflow_triggered_run",
]
show_to_stubs(AirflowDeployer, f"{__package__}.airflow_deployer_objects.AirflowDeployedFlow")
