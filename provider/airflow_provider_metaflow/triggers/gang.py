"""Waits for the control node of a gang without holding a worker, and deletes the gang when its task is killed.

Loaded when a ``@parallel`` step runs in pods.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import OnKillAction
from kubernetes_asyncio import client

JOB_KEY = "job"
"""In ``trigger_kwargs``: name of the gang's job."""


class MetaflowGangTrigger(KubernetesPodTrigger):
    """The trigger of Airflow's Kubernetes provider, which would delete the pod of the control node alone."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, as plain JSON types."""
        return f"{__name__}.{type(self).__name__}", super().serialize()[1]

    async def on_kill(self) -> None:
        """Delete the job with all its pods. Airflow calls this from 3.3 on."""
        if self._fired_event or self.on_kill_action == OnKillAction.KEEP_POD:
            return
        async with self.hook.get_conn() as connection:
            await client.BatchV1Api(connection).delete_namespaced_job(
                self.trigger_kwargs[JOB_KEY], self.pod_namespace, propagation_policy="Background"
            )
