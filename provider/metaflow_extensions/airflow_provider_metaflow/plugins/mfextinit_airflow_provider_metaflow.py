"""What this extension adds to Metaflow. Loaded at every ``import metaflow``: names only, no imports."""

import os

# Replaces Metaflow's own `airflow` group, whose DAG files do not import on Airflow 3.
CLIS_DESC = [
    ("airflow", ".orchestrator.cli.groups.airflow"),
    ("argo", ".orchestrator.cli.groups.argo"),
    ("sfn", ".orchestrator.cli.groups.sfn"),
]

if os.environ.get("METAFLOW_ADAPTERS_REPLACE_STOCK") == "1":
    # Under the names of Metaflow's own groups, which have the same verbs and options.
    CLIS_DESC += [
        ("argo-workflows", ".orchestrator.cli.groups.argo_workflows"),
        ("step-functions", ".orchestrator.cli.groups.step_functions"),
    ]

DEPLOYER_IMPL_PROVIDERS_DESC = [
    ("airflow", ".orchestrator.deployer.airflow_deployer.AirflowDeployer"),
    ("argo", ".orchestrator.deployer.argo_deployer.ArgoDeployer"),
    ("sfn", ".orchestrator.deployer.sfn_deployer.SfnDeployer"),
]

STEP_DECORATORS_DESC = [
    ("orchestrator_internal", ".orchestrator.task.step_decorator.OrchestratorInternalDecorator"),
]
