"""What this extension adds to Metaflow. Loaded at every ``import metaflow``: names only, no imports."""

import os

# Replaces Metaflow's own `airflow` group, whose DAG files do not import on Airflow 3.
CLIS_DESC = [
    ("airflow", ".orchestrator.command_groups.airflow"),
    ("argo", ".orchestrator.command_groups.argo"),
    ("sfn", ".orchestrator.command_groups.sfn"),
]

if os.environ.get("METAFLOW_ADAPTERS_REPLACE_STOCK") == "1":
    # Under the names of Metaflow's own groups, which have the same verbs and options.
    CLIS_DESC += [
        ("argo-workflows", ".orchestrator.command_groups.argo_workflows"),
        ("step-functions", ".orchestrator.command_groups.step_functions"),
    ]

DEPLOYER_IMPL_PROVIDERS_DESC = [
    ("airflow", ".orchestrator.airflow_deployer.AirflowDeployer"),
    ("argo", ".orchestrator.argo_deployer.ArgoDeployer"),
    ("sfn", ".orchestrator.sfn_deployer.SfnDeployer"),
]

STEP_DECORATORS_DESC = [
    ("orchestrator_internal", ".orchestrator.step_decorator.OrchestratorInternalDecorator"),
]
