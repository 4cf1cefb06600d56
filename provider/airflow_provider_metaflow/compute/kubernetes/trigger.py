"""Waits for the control node of a gang without holding a worker, and deletes the gang when its task is killed.

Loaded when a ``@parallel`` step runs in pods.
"""

from __future__ import annotations

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import OnKillAction
from kubernetes_asyncio import client

from airflow_provider_metaflow._compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_metaflow.formats import SerializedTrigger

JOB_KEY = "job"
"""In ``trigger_kwargs``: name of the gang's job."""


class MetaflowGangTrigger(KubernetesPodTrigger):
    """The trigger of Airflow's Kubernetes provider, which would delete the pod of the control node alone."""

    def serialize(self) -> SerializedTrigger:
        """Return class path and arguments, as plain JSON types."""
        return f"{__name__}.{type(self).__name__}", super().serialize()[1]

    async def on_kill(self) -> None:
        """Delete the job with all its pods: the task was marked or cleared. Airflow calls this from 3.3 on."""
        if self._fired_event or self.on_kill_action == OnKillAction.KEEP_POD:
            return
        self.log.info("Deleting the job %s in namespace %s.", self.trigger_kwargs[JOB_KEY], self.pod_namespace)
        async with self.hook.get_conn() as connection:
            await client.BatchV1Api(connection).delete_namespaced_job(
                self.trigger_kwargs[JOB_KEY], self.pod_namespace, propagation_policy="Background"
            )

    async def cleanup(self) -> None:
        """Do the same before Airflow 3.3, unless the task is deferred still: then only the triggerer has ended."""
        if AIRFLOW_V_3_3_PLUS or self._fired_event:
            return
        try:
            is_over = await self.safe_to_cancel()
        except Exception:  # a job that may be needed stays
            self.log.warning("The state of the task is not known, so its gang is left alone.", exc_info=True)
            return
        if is_over:
            await self.on_kill()
