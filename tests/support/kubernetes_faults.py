"""What is killed of an Airflow whose steps run in pods: also pods, their processes, and Kubernetes' API server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .faults import COMPONENTS, Fault, Site
from .kubernetes import NAMESPACE, Cluster

POD_KINDS = ("pod", "container", "task", "supervisor", *COMPONENTS, "database", "object store", "cluster")
"""A pod is deleted at once, as with its node; of a container the first process is killed, as if memory was short."""


@dataclass
class PodSite(Site):
    """The Airflow, the object store, and the cluster of the pods.

    :param cluster: what runs the pods.
    :param flow: the flow whose pods they are.
    """

    # With defaults, since fields of the base class have them.
    cluster: Cluster | None = None
    flow: str = ""

    def strike(self, fault: Fault) -> Callable[[], None] | None:
        """Kill; see :meth:`Site.strike`."""
        if fault.kind not in ("pod", "container", "cluster"):
            return super().strike(fault)
        assert self.cluster is not None
        if fault.kind == "cluster":
            self.cluster.restart_api_server()
            return lambda: None
        # A pod may have ended since it was seen, and the API server may be on its way.
        with suppress(AssertionError, ProcessLookupError):
            if running := self._running():
                self._kill(running[int(fault.pick * len(running))], is_whole=fault.kind == "pod")
                return lambda: None
        return None

    def _kill(self, pod: str, *, is_whole: bool) -> None:
        assert self.cluster is not None
        if is_whole:
            self.cluster.kubectl("-n", NAMESPACE, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
        else:
            self.cluster.kill_container(pod)

    def _running(self) -> list[str]:
        assert self.cluster is not None
        pods = self.cluster.get("pods", "-l", f"metaflow/flow={self.flow}")
        return sorted(one["metadata"]["name"] for one in pods if one["status"]["phase"] == "Running")
