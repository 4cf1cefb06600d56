"""What this extension adds to Metaflow. Loaded at every ``import metaflow``: names only, no imports."""

# Replaces Metaflow's own `airflow` group, whose DAG files do not import on Airflow 3.
CLIS_DESC = [("airflow", ".orchestrator.airflow_cli.cli"), ("argo", ".orchestrator.argo_cli.cli")]

DEPLOYER_IMPL_PROVIDERS_DESC = [("airflow", ".orchestrator.airflow_deployer.AirflowDeployer")]

STEP_DECORATORS_DESC = [
    ("orchestrator_internal", ".orchestrator.step_decorator.OrchestratorInternalDecorator"),
]
