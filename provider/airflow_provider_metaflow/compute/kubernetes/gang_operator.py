"""The nodes of a ``@parallel`` step as pods: a subclass of :class:`~.operator.MetaflowPodOperator`.

Loaded when a step runs in pods, never when a DAG file is parsed.
"""

from __future__ import annotations

import signal
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from kubernetes.client import ApiClient, ApiException, BatchV1Api

from airflow_provider_metaflow._compat import require_methods
from airflow_provider_metaflow.compute.kubernetes.failure import exit_code
from airflow_provider_metaflow.compute.kubernetes.trigger import JOB_KEY, MetaflowGangTrigger
from metaflow_orchestration.containers.gang import INDEX_LABEL, JOB_LABEL, make_job, make_service
from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.exceptions import StepFailedError

from .operator import POLL_SECONDS, MetaflowPodOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger
    from kubernetes.client import V1Job, V1Pod

require_methods(MetaflowPodOperator, "_build_find_pod_label_selector")

_ENDED_BY_OTHERS = (128 + signal.SIGKILL, 128 + signal.SIGTERM)


class MetaflowGangOperator(MetaflowPodOperator):
    """The nodes of a ``@parallel`` step: an Indexed Job and a headless service. Watches the pod of the control node.

    :param nodes: how many.
    """

    def __init__(self, *, nodes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nodes = nodes
        self.failed_node: KubernetesObject | None = None
        """The pod of the node that failed, in the words of the Kubernetes API."""

    @cached_property
    def jobs(self) -> BatchV1Api:
        """Kubernetes' client for jobs."""
        return BatchV1Api(self.client.api_client)

    def _build_find_pod_label_selector(self, context: Context | None = None, *, exclude_checked: bool = True) -> str:
        selector: str = super()._build_find_pod_label_selector(context, exclude_checked=exclude_checked)
        return f"{selector},{INDEX_LABEL}=0"

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        """Attach to the control node's pod, or create job and service and wait for it.

        :param pod_request_obj: the pod of each node.
        :param context: Airflow's task context.
        """
        self._requested = pod_request_obj
        namespace = pod_request_obj.metadata.namespace
        found = self._find_current(namespace, context)
        if found is not None and found.status.phase != "Failed":
            return found
        self._create_job(pod_request_obj)
        end = time.monotonic() + self.startup_timeout_seconds
        while time.monotonic() < end:
            found = self.find_pod(namespace, context)
            if found is not None:
                return found
            time.sleep(POLL_SECONDS)
        raise StepFailedError(
            f"its job {pod_request_obj.metadata.name} got no pods in {self.startup_timeout_seconds} s."
        )

    def defer(self, *, trigger: BaseTrigger, method_name: str, **kwargs: Any) -> NoReturn:
        """Let the triggerer wait, by a trigger that deletes the gang when a user kills the task.

        :param trigger: Airflow's own.
        :param method_name: where to go on.
        :param kwargs: see Airflow's operator.
        :raises TaskDeferred: always.
        """
        arguments = trigger.serialize()[1]
        job = self.pod.metadata.labels[JOB_LABEL] if self.pod is not None else None
        arguments["trigger_kwargs"] = {**arguments["trigger_kwargs"], JOB_KEY: job}
        super().defer(trigger=MetaflowGangTrigger(**arguments), method_name=method_name, **kwargs)

    def _create_job(self, pod: V1Pod) -> V1Job:
        template = ApiClient().sanitize_for_serialization(pod)
        namespace = pod.metadata.namespace
        job = self.jobs.create_namespaced_job(namespace, make_job(template, self.nodes))
        self.client.create_namespaced_service(namespace, make_service(job.metadata.name, job.metadata.uid))
        self.log.info("Created job %s with %d nodes", job.metadata.name, self.nodes)
        return job

    def cleanup(
        self,
        pod: V1Pod,
        remote_pod: V1Pod,
        xcom_result: dict[Any, Any] | None = None,
        context: Context | None = None,
    ) -> None:
        """Wait for the other nodes, then delete the whole gang.

        :param pod: the control node's pod as it was requested.
        :param remote_pod: the same as it was seen last.
        :param xcom_result: nothing; the outcome is in the termination message.
        :param context: Airflow's task context.
        """
        name, namespace = pod.metadata.labels[JOB_LABEL], pod.metadata.namespace
        keep = self.on_finish_action.value == "keep_pod"
        try:
            # Once the control node has failed, the other nodes cannot succeed.
            succeeded = remote_pod is not None and remote_pod.status.phase == "Succeeded"
            complete = succeeded and self._await_job(name, namespace)
            if not complete:
                self.failed_node = self._find_failed_node(name, namespace)
            super().cleanup(pod, remote_pod, xcom_result, context)
        finally:
            if not keep and not self._is_orphaned():
                self._delete_job(name, namespace)
        if not complete:
            raise StepFailedError("another node of its gang failed")

    def _await_job(self, name: str, namespace: str) -> bool:
        """Wait for the other nodes, and return whether all have succeeded."""
        while True:
            try:
                job = self._patiently()(self.jobs.read_namespaced_job, name, namespace)
            except ApiException as error:
                if error.status == 404:
                    return False
                raise
            for condition in job.status.conditions or []:
                if condition.status == "True" and condition.type in ("Complete", "Failed"):
                    return bool(condition.type == "Complete")
            time.sleep(POLL_SECONDS)

    def _find_failed_node(self, name: str, namespace: str) -> KubernetesObject | None:
        """Return the pod of the node that failed by itself; Kubernetes has ended the others because of it."""
        try:
            pods = self.client.list_namespaced_pod(namespace, label_selector=f"{JOB_LABEL}={name}").items
        except ApiException:
            return None
        plain = [ApiClient().sanitize_for_serialization(pod) for pod in pods if pod.status.phase == "Failed"]
        own = [pod for pod in plain if exit_code(pod) not in (None, *_ENDED_BY_OTHERS)]
        found: KubernetesObject | None = next(iter([*own, *plain]), None)
        return found

    def _delete(self, pod: V1Pod) -> None:
        self._delete_job(pod.metadata.labels[JOB_LABEL], pod.metadata.namespace)

    def _delete_job(self, name: str, namespace: str) -> None:
        try:
            self.jobs.delete_namespaced_job(name, namespace, propagation_policy="Background")
        except ApiException as error:
            if error.status != 404:
                raise

    def on_kill(self) -> None:
        """Delete the whole gang."""
        self._killed = True
        if self.pod is not None and not self._is_orphaned():
            self._delete_job(self.pod.metadata.labels[JOB_LABEL], self.pod.metadata.namespace)
