"""Metaflow flows as first-class Apache Airflow 3 DAGs.

Public names are loaded on first use, so that having the package installed costs a process nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dag.factory import MetaflowDag, MetaflowTaskGroup, load_flows
    from .dag.translator import FlowTranslator, StepContext

__version__ = "0.1.0"
__all__ = ["FlowTranslator", "MetaflowDag", "MetaflowTaskGroup", "StepContext", "__version__", "load_flows"]

_MODULES = {
    "MetaflowDag": "dag.factory",
    "MetaflowTaskGroup": "dag.factory",
    "load_flows": "dag.factory",
    "FlowTranslator": "dag.translator",
    "StepContext": "dag.translator",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
