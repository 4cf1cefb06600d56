"""What this extension adds to Metaflow. Loaded at every ``import metaflow``: names only, no imports."""

import os

# Replaces Metaflow's own `airflow` group, whose DAG files do not import on Airflow 3.
CLIS_DESC = [("airflow", ".orchestrator.airflow_cli.cli"), ("argo", ".orchestrator.argo_cli.cli")]

if os.environ.get("METAFLOW_ADAPTERS_REPLACE_STOCK") == "1":
    # Under the name of Metaflow's own group, which has the same verbs and options.
    CLIS_DESC += [("argo-workflows", ".orchestrator.argo_cli.stock_cli")]

DEPLOYER_IMPL_PROVIDERS_DESC = [
    ("airflow", ".orchestrator.airflow_deployer.AirflowDeployer"),
    ("argo", ".orchestrator.argo_deployer.ArgoDeployer"),
]

STEP_DECORATORS_DESC = [
    ("orchestrator_internal", ".orchestrator.step_decorator.OrchestratorInternalDecorator"),
]
