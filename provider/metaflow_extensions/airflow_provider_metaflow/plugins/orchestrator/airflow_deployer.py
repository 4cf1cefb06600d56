"""``Deployer("flow.py").airflow()``. Loaded at every ``import metaflow``: standard library and Metaflow only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from metaflow.runner.deployer_impl import DeployerImpl

if TYPE_CHECKING:
    from .airflow_deployer_objects import AirflowDeployedFlow


class AirflowDeployer(DeployerImpl):
    """
    Deployer implementation for Apache Airflow.

    Parameters
    ----------
    name : str, optional, default None
        Airflow DAG id. The flow name is used instead if this option is not specified.
    """

    TYPE: ClassVar[str | None] = "airflow"

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

    def create(self, **kwargs: Any) -> AirflowDeployedFlow:
        """
        Create a new Airflow deployment.

        Parameters
        ----------
        file : str, optional, default None
            Where the DAG file goes: a file, a folder, or a place in an object store. By default
            METAFLOW_AIRFLOW_DAGS_FOLDER.
        authorize : str, optional, default None
            Authorize using this production token.
        generate_new_token : bool, optional, default False
            Generate a new production token for this flow.
        given_token : str, optional, default None
            Use the given production token for this flow.
        tags : List[str], optional, default None
            Annotate all objects produced by the runs with these tags.
        user_namespace : str, optional, default None
            Change the namespace from the default (production token) to the given tag.
        max_workers : int, optional, default 100
            Maximum number of tasks of a run that run in parallel.
        workflow_timeout : int, optional, default None
            Timeout of a run in seconds.
        worker_pool : str, optional, default None
            Airflow pool of all steps.
        is_paused_upon_creation : bool, optional, default None
            Whether the DAG is paused when Airflow first sees it.

        Returns
        -------
        AirflowDeployedFlow
            The flow deployed to Airflow.
        """
        from .airflow_deployer_objects import AirflowDeployedFlow
        from .published import note_created

        deployed: AirflowDeployedFlow = self._create(AirflowDeployedFlow, **kwargs)
        note_created(self.name, getattr(self, "additional_info", {}).get("file"))
        return deployed


_HERE = "metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator"
_addl_stubgen_modules = [f"{_HERE}.airflow_deployer_objects", f"{_HERE}.airflow_triggered_run"]
