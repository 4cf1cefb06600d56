"""What this extension adds to Metaflow. Loaded at every ``import metaflow``: names only, no imports."""

import os

# Replaces Metaflow's own `airflow` group, whose DAG files do not import on Airflow 3.
CLIS_DESC = [
    ("airflow", ".orchestrator.airflow_cli.cli"),
    ("argo", ".orchestrator.argo_cli.cli"),
    ("sfn", ".orchestrator.sfn_cli.cli"),
]

if os.environ.get("METAFLOW_ADAPTERS_REPLACE_STOCK") == "1":
    # Under the names of Metaflow's own groups, which have the same verbs and options.
    CLIS_DESC += [
        ("argo-workflows", ".orchestrator.argo_cli.stock_cli"),
        ("step-functions", ".orchestrator.sfn_cli.stock_cli"),
    ]

DEPLOYER_IMPL_PROVIDERS_DESC = [
    ("airflow", ".orchestrator.airflow_deployer.AirflowDeployer"),
    ("argo", ".orchestrator.argo_deployer.ArgoDeployer"),
    ("sfn", ".orchestrator.sfn_deployer.SfnDeployer"),
]

STEP_DECORATORS_DESC = [
    ("orchestrator_internal", ".orchestrator.step_decorator.OrchestratorInternalDecorator"),
]
