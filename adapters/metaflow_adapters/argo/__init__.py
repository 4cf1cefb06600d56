"""A Metaflow flow on Argo Workflows, as live Hera objects."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compile import compile_flow
    from .deployment import ArgoDeployment
    from .embedding import EmbeddedFlow, embed_flow, flow_task
    from .options import ArgoOptions

_PLACES = {
    "ArgoDeployment": "deployment",
    "ArgoOptions": "options",
    "EmbeddedFlow": "embedding",
    "compile_flow": "compile",
    "embed_flow": "embedding",
    "flow_task": "embedding",
}

__all__ = ["ArgoDeployment", "ArgoOptions", "EmbeddedFlow", "compile_flow", "embed_flow", "flow_task"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: Hera takes most of a second, and names need none of it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    prepare_imports()
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def prepare_imports() -> None:
    """Give ``typing`` the functions of the installed ``typing_extensions`` again.

    Metaflow's Deployer has an older copy of that library, which puts its own there. With them and the classes of the
    installed one, Hera cannot be imported: "Type parameter without a default follows type parameter with a default".
    """
    import sys
    import typing

    installed = sys.modules.get("typing_extensions")
    if installed is None or "metaflow._vendor.typing_extensions" not in sys.modules:
        return
    for name in ("_collect_parameters", "_collect_type_vars"):
        if hasattr(typing, name) and hasattr(installed, name):
            setattr(typing, name, getattr(installed, name))
