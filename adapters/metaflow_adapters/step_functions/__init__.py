"""A Metaflow flow on AWS Step Functions, its steps as jobs of AWS Batch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compile import StepFunctionsOptions, compile_flow
    from .emit.events import publish_event
    from .machine import FlowMachine

_PLACES = {
    "FlowMachine": "machine",
    "StepFunctionsOptions": "compile",
    "compile_flow": "compile",
    "publish_event": "emit.events",
}

__all__ = ["FlowMachine", "StepFunctionsOptions", "compile_flow", "publish_event"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
