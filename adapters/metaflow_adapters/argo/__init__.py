"""A Metaflow flow on Argo Workflows, as live Hera objects."""

from .compile import ArgoOptions, compile_flow
from .deployment import ArgoDeployment

__all__ = ["ArgoDeployment", "ArgoOptions", "compile_flow"]
