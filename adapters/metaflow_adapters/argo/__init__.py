"""A Metaflow flow on Argo Workflows, as live Hera objects."""

from .compile import ArgoOptions, compile_flow
from .deployment import ArgoDeployment
from .embedding import EmbeddedFlow, embed_flow, flow_task

__all__ = ["ArgoDeployment", "ArgoOptions", "EmbeddedFlow", "compile_flow", "embed_flow", "flow_task"]
