"""Metaflow flows as first-class Apache Airflow 3 DAGs.

Public names are loaded on first use, so that having the package installed costs a process nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_metaflow.plan.translator import FlowTranslator, StepContext

    from .dag.factory import MetaflowDag, MetaflowTaskGroup
    from .dag.loader import load_flow_dags, load_flows
    from .hooks.metaflow import MetaflowHook
    from .operators.artifact import MetaflowArtifactOperator, artifact
    from .operators.run import MetaflowRunOperator
    from .sensors.metaflow import MetaflowArtifactSensor, MetaflowRunSensor

__version__ = "0.1.0"
__all__ = [
    "FlowTranslator",
    "MetaflowArtifactOperator",
    "MetaflowArtifactSensor",
    "MetaflowDag",
    "MetaflowHook",
    "MetaflowRunOperator",
    "MetaflowRunSensor",
    "MetaflowTaskGroup",
    "StepContext",
    "__version__",
    "artifact",
    "load_flow_dags",
    "load_flows",
]

_MODULES = {
    "MetaflowDag": "dag.factory",
    "MetaflowTaskGroup": "dag.factory",
    "load_flow_dags": "dag.loader",
    "load_flows": "dag.loader",
    "FlowTranslator": "plan.translator",
    "StepContext": "plan.translator",
    "MetaflowArtifactOperator": "operators.artifact",
    "artifact": "operators.artifact",
    "MetaflowArtifactSensor": "sensors.metaflow",
    "MetaflowRunSensor": "sensors.metaflow",
    "MetaflowHook": "hooks.metaflow",
    "MetaflowRunOperator": "operators.run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
