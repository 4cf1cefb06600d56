"""What each orchestrator would do with a flow, as one table: read before anything is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .flow import check_flow
    from .report import Report, Row, State, Topic
    from .target import Target, check_manifest

__all__ = ["Report", "Row", "State", "Target", "Topic", "check_flow", "check_manifest"]

_MODULES = {"check_flow": "flow", "check_manifest": "target", "Target": "target"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES.get(name, 'report')}", __name__), name)
