"""Pods of Metaflow tasks: thin subclasses of the operator of Airflow's Kubernetes provider.

Loaded when a step runs in a pod, never when a DAG file is parsed: the provider costs 1.3 s and 2,000 modules to import.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tenacity
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import OnKillAction
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from airflow_provider_metaflow.compute.kubernetes.identity import PodIdentity
from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.exceptions import StepFailedError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import V1Pod

POLL_SECONDS = 1.0
_DELETION_SECONDS = 120.0
_PATIENCE_TRIES = 12
"""About a minute and a half without an answer."""

_ENDED = ("Succeeded", "Failed")


def attempt_of_pod(annotations: Mapping[str, str] | None, default: int) -> int:
    """Return the Metaflow attempt that a pod runs.

    :param annotations: the pod's annotations.
    :param default: what to return if it is not among them.
    """
    return int((annotations or {}).get("metaflow/attempt", default))


def _is_passing(error: BaseException) -> bool:
    """Return whether the API may answer later.

    A server that has just started even forbids, until it has read its rules (measured on Kubernetes 1.34).
    """
    if isinstance(error, ApiException):
        return error.status in (401, 403, 429) or not error.status or error.status >= 500
    return isinstance(error, (KubernetesApiException, HTTPError))


class MetaflowPodOperator(KubernetesPodOperator):
    """The pod of one Metaflow task. Keeps what the pod said last, and attaches to no pod but its own.

    :param first_attempt: the first attempt since the task was cleared; pods of those before are deleted.
    :param identity: which pods may be those of the task; None trusts its labels.
    """

    last_seen: KubernetesObject | None = None
    """The pod before it was cleaned up, in the words of the Kubernetes API."""

    last_events: tuple[KubernetesObject, ...] = ()
    """Its events, if it failed."""

    def __init__(self, *, first_attempt: int = 0, identity: PodIdentity | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._first_attempt = first_attempt
        self._identity = identity
        self._requested: V1Pod | None = None
        self._supervisor = os.getppid()

    def _is_orphaned(self) -> bool:
        """Return whether the worker that watched this process is gone: then the pod belongs to the next try.

        Such a process notices at its next message to the worker, and would delete the pod.
        """
        orphaned = os.getppid() != self._supervisor
        if orphaned:
            self.log.warning("The worker is gone; its pod is left to the next try.")
        return orphaned

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        """Attach to the task's pod that is there already, or create it.

        :param pod_request_obj: the pod to create.
        :param context: Airflow's task context.
        """
        self._requested = pod_request_obj
        found = self._find_current(pod_request_obj.metadata.namespace, context)
        # Airflow would delete one that did its work while nobody watched, and make another.
        if found is not None and found.status.phase == "Succeeded":
            self.log.info("Pod %s has succeeded while nobody watched it", found.metadata.name)
            return found
        return super().get_or_create_pod(pod_request_obj, context)

    def _find_current(self, namespace: str, context: Context) -> V1Pod | None:
        """Return the task's pod, unless it is being deleted or was there before the task was cleared."""
        pods = self._await_deletion(namespace, context)
        # Airflow's own search lists them once more, and refuses several.
        found = pods[0] if len(pods) == 1 else self.find_pod(namespace, context) if pods else None
        if found is None or not self._is_outdated(found):
            return found
        self.log.info("Deleting pod %s, whose task was cleared", found.metadata.name)
        self._delete(found)
        self._await_deletion(namespace, context, found.metadata.name)
        return None

    def _await_deletion(self, namespace: str, context: Context, deleted: str | None = None) -> list[V1Pod]:
        """Wait for a pod of the task that is being deleted: it must neither be attached to nor run beside the next one.

        Returns the pods of the task that stay.
        """
        selector = self._build_find_pod_label_selector(context)
        end = time.monotonic() + _DELETION_SECONDS
        while True:
            pods = self._own(self.client.list_namespaced_pod(namespace=namespace, label_selector=selector).items)
            # Of a job Kubernetes deletes the pods a little later.
            leaving = [one for one in (pod.metadata for pod in pods) if one.deletion_timestamp or one.name == deleted]
            if not leaving or time.monotonic() > end:
                return pods
            self.log.info("Waiting for the deletion of pod %s", leaving[0].name)
            time.sleep(POLL_SECONDS)

    def _difference(self, pod: V1Pod) -> str | None:
        return self._identity.difference(pod, self._requested) if self._identity is not None else None

    def _own(self, pods: list[V1Pod]) -> list[V1Pod]:
        """Return those of the pods with the task's labels that are the task's."""
        found = []
        for pod in pods:
            difference = self._difference(pod)
            if difference is None:
                found.append(pod)
            else:
                name = pod.metadata.name
                self.log.warning(
                    "Pod %s has the labels of this task but is not its own, and is ignored: %s", name, difference
                )
        return found

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> V1Pod | None:
        """Return the pod of the task that is there already, None if there is none.

        :param namespace: where to look.
        :param context: Airflow's task context.
        :param exclude_checked: leave out pods that an earlier try is done with.
        """
        selector = self._build_find_pod_label_selector(context, exclude_checked=exclude_checked)
        pods = self._own(self.client.list_namespaced_pod(namespace=namespace, label_selector=selector).items)
        if len(pods) > 1:
            found: V1Pod | None = super().find_pod(namespace, context, exclude_checked=exclude_checked)
            return found
        return pods[0] if pods else None

    def _is_outdated(self, pod: V1Pod) -> bool:
        attempt = attempt_of_pod(pod.metadata.annotations, self._first_attempt)
        return attempt < self._first_attempt and self.on_kill_action != OnKillAction.KEEP_POD

    def _delete(self, pod: V1Pod) -> None:
        self.pod_manager.delete_pod(pod)

    def find_pods(self, context: Context) -> list[V1Pod]:
        """Return the pods that have the operator's labels and belong to this task instance.

        :param context: Airflow's task context.
        """
        self._requested = self.build_pod_request_obj(context)
        selector = self._build_find_pod_label_selector(context)
        namespace = self._requested.metadata.namespace
        return self._own(self.client.list_namespaced_pod(namespace=namespace, label_selector=selector).items)

    def await_pod_start(self, pod: V1Pod) -> None:
        """Wait until the pod runs, over a restart of the API server.

        :param pod: the pod.
        """
        self._patiently()(super().await_pod_start, pod)

    # Airflow has decorated the method that this one replaces.
    def await_pod_completion(self, pod: V1Pod) -> None:  # type: ignore[override]
        """Wait until the pod ends, over a restart of the API server.

        :param pod: the pod.
        """
        self._patiently()(super().await_pod_completion, pod)

    def _patiently(self) -> tenacity.Retrying:
        """Wait again if the API gives no answer for a while: Airflow would delete the pod, which is well."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_passing),
            wait=tenacity.wait_exponential(max=10),
            stop=tenacity.stop_after_attempt(_PATIENCE_TRIES),
            before_sleep=tenacity.before_sleep_log(logging.getLogger(__name__), logging.WARNING),
            reraise=True,
        )

    def _get_pod_from_task_state_store(self, context: Context) -> V1Pod | None:
        """Airflow remembers one pod a task instance, but a pack or a recursion has several."""
        pod = super()._get_pod_from_task_state_store(context)
        found = (pod.metadata.labels or {}) if pod is not None else {}
        if pod is None or any(found.get(name) != value for name, value in self.labels.items()):
            return None
        return next(iter(self._own([pod])), None)

    def cleanup(
        self,
        pod: V1Pod,
        remote_pod: V1Pod,
        xcom_result: dict[Any, Any] | None = None,
        context: Context | None = None,
    ) -> None:
        """Look at the pod once more before it is deleted.

        :param pod: the pod as it was requested.
        :param remote_pod: the pod as it was seen last.
        :param xcom_result: nothing; the outcome is in the termination message.
        :param context: Airflow's task context.
        """
        if self._is_orphaned():
            raise StepFailedError("the worker that watched its pod is gone.")
        if remote_pod is not None:
            self._observe(remote_pod)
        super().cleanup(pod, remote_pod, xcom_result, context)

    def process_pod_deletion(self, pod: V1Pod, *, reraise: bool = True) -> bool:
        """Delete the pod, unless it belongs to somebody else by now.

        :param pod: the pod.
        :param reraise: whether an error is raised.
        """
        return not self._is_orphaned() and bool(super().process_pod_deletion(pod, reraise=reraise))

    def on_kill(self) -> None:
        """Delete the pod, unless it belongs to somebody else by now."""
        if not self._is_orphaned():
            super().on_kill()

    def _observe(self, pod: V1Pod) -> None:
        plain = ApiClient().sanitize_for_serialization
        try:
            if pod.status is None or pod.status.phase not in _ENDED:
                pod = self.client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
            if pod.status.phase != "Succeeded":
                self.last_events = tuple(plain(event) for event in self.pod_manager.read_pod_events(pod).items)
        except Exception as error:  # what became of the pod counts, not whether its events can be read
            self.log.warning("Pod %s cannot be looked at: %s", pod.metadata.name, error)
        difference = self._difference(pod)
        if difference is not None:
            raise StepFailedError(f"its pod {pod.metadata.name} was replaced by another: {difference}.")
        self.last_seen = plain(pod)
