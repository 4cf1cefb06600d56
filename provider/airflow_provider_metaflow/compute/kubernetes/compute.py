"""Metaflow tasks in pods of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow._compat import TaskDeferred
from airflow_provider_metaflow.compute.kubernetes.failure import (
    UNKNOWN,
    api_error,
    exit_code,
    failure_reason,
    outcome_message,
)
from airflow_provider_metaflow.compute.kubernetes.identity import PodIdentity, names_of_attempts
from airflow_provider_metaflow.compute.remote import RemoteTask
from airflow_provider_metaflow.formats import Arguments, TriggerEventData
from metaflow_orchestration.containers.command import TASK_VARIABLE, container_command, first_environment
from metaflow_orchestration.containers.gang import INDEX_LABEL, gang_environment
from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.containers.options import POD_OVERRIDE, Attributes, OperatorArguments
from metaflow_orchestration.containers.pod_fields import names_of
from metaflow_orchestration.containers.pods import (
    CONTAINER,
    TASK_LABEL,
    label_value,
    make_pod,
    pod_annotations,
    pod_labels,
    pod_name,
    task_environment,
)
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.task import OutcomeDocument
from metaflow_orchestration.exceptions import StepFailedError
from metaflow_orchestration.run.commands import NO_RETRY, StepCall

if TYPE_CHECKING:
    from .operator import MetaflowPodOperator


@dataclass(slots=True, kw_only=True)
class PodCompute(RemoteTask):
    """Runs each Metaflow task in a pod of its own, and a gang in those of a job.

    :param attributes: attributes of ``@kubernetes``.
    :param arguments: arguments of Airflow's pod operator that the user has set.
    """

    attributes: Attributes
    arguments: OperatorArguments
    _running: MetaflowPodOperator | None = None

    def run(
        self, calls: Sequence[StepCall], parameters: Mapping[str, str] | None, gang: int | None
    ) -> list[OutcomeDocument | None]:
        """See :class:`~.remote.RemoteCompute`."""
        (call,) = calls
        operator = self._operator(call, self._pod(call, parameters, gang), gang)
        return [self._watch(call, operator, None)]

    def resume(self, calls: Sequence[StepCall], event: TriggerEventData) -> list[OutcomeDocument | None]:
        """See :class:`~.remote.RemoteCompute`."""
        (call,) = calls
        gang = event.get("gang")
        return [self._watch(call, self._operator(call, None, gang), event)]

    def lingering(self, calls: Sequence[StepCall]) -> frozenset[str]:
        """See :class:`~.remote.RemoteCompute`."""
        operator = self._operator(calls[0], self._pod(calls[0], None, None), None, calls)
        del operator.labels[TASK_LABEL]
        found = {pod.metadata.labels[TASK_LABEL] for pod in operator.find_pods(self.context)}
        return frozenset(call.task_id for call in calls if label_value(call.task_id) in found)

    def kill(self) -> None:
        """Delete the pod."""
        if self._running is not None:
            self._running.on_kill()

    def _watch(
        self, call: StepCall, operator: MetaflowPodOperator, event: TriggerEventData | None
    ) -> OutcomeDocument | None:
        self._running = operator
        try:
            if event is not None:
                operator.trigger_reentry(self.context, event)
            elif operator.deferrable:
                operator.execute_async(self.context)
            else:
                operator.execute_sync(self.context)
        except TaskDeferred:
            raise
        except Exception as error:  # the API's, the provider's, ours: all mean that there is no result yet
            return self._after_failure(call, operator, error)
        except BaseException:
            # Airflow's time limit; its own call of `on_kill` comes when we are gone.
            operator.on_kill()
            raise
        finally:
            self._running = None
        return self._outcome(call, operator)

    def _outcome(self, call: StepCall, operator: MetaflowPodOperator) -> OutcomeDocument:
        document = outcome_message(operator.last_seen or {})
        if document is None or document.get("task_id") != call.task_id:
            # Cut, or not of this task.
            (document,) = self.stored([call], _attempt(operator, call))
        if document is None:
            raise self.failure(call, "its pod succeeded but there is no result in the datastore")
        return document

    def _after_failure(self, call: StepCall, operator: MetaflowPodOperator, error: Exception) -> OutcomeDocument:
        pod, node = operator.last_seen, getattr(operator, "failed_node", None)
        code = exit_code(pod) if pod is not None else None
        if node is not None:
            reason = f"node {node['metadata']['labels'][INDEX_LABEL]} of its gang failed: {failure_reason(node)}"
            raise self.failure(call, reason, final=exit_code(node) == NO_RETRY) from error
        if code is None:
            # The pod is gone, or was never seen to end: what counts is whether the task did its work.
            (document,) = self.stored([call], _attempt(operator, call))
            if document is not None:
                operator.log.warning("The end of the pod was not seen (%s), but its task has a result.", error)
                return document
        elif code == 0 and not isinstance(error, StepFailedError):
            return self._outcome(call, operator)
        reason = failure_reason(pod, operator.last_events) if pod is not None else api_error(error)
        if reason == UNKNOWN:
            reason = f"{reason}: {api_error(error)}"
        raise self.failure(call, reason, final=code == NO_RETRY) from error

    def _operator(
        self, call: StepCall, pod: KubernetesObject | None, gang: int | None, calls: Sequence[StepCall] = ()
    ) -> MetaflowPodOperator:
        from .gang_operator import MetaflowGangOperator
        from .operator import MetaflowPodOperator

        arguments = dict(self.arguments)
        override = arguments.pop(POD_OVERRIDE, None)
        made: Arguments = {
            "task_id": self.owner.task_id,
            "name": pod_name(self.manifest, call),
            # The name holds the attempt: Kubernetes itself refuses a second pod for it.
            "random_name_suffix": False,
            "labels": pod_labels(self.manifest, call),
            "pod_template_dict": pod,
            "full_pod_spec": _as_pod(override),
            "base_container_name": CONTAINER,
            "first_attempt": self.first_attempt,
            "log_pod_spec_on_failure": False,
            "container_name_log_prefix_enabled": False,
            # The end of the log, where the container could write no message of its own.
            "termination_message_policy": "FallbackToLogsOnError",
            # Airflow's own default of 5 s would be most of the time that a short step takes.
            "startup_check_interval_seconds": 1,
            **remote_settings(self.manifest).pod_arguments,
            **arguments,
        }
        is_gang = gang is not None and gang > 1
        names = None if "name" in arguments else names_of_attempts(self.manifest, calls or [call])
        made["identity"] = PodIdentity(names=names, container=made["base_container_name"], gang=is_gang)
        if gang is not None and gang > 1:
            made["trigger_kwargs"] = {"gang": gang}
            return MetaflowGangOperator(nodes=gang, **made)
        return MetaflowPodOperator(**made)

    def _pod(self, call: StepCall, parameters: Mapping[str, str] | None, gang: int | None) -> KubernetesObject:
        task = task_environment(self.attributes)
        if gang is not None and gang > 1:
            task.update(gang_environment(pod_name(self.manifest, call), self.attributes.get("port")))
        elif gang is not None:
            # A gang of one has nobody to find; Metaflow runs it as on one machine.
            del task["METAFLOW_RUNTIME_ENVIRONMENT"]
            gang = None
        secrets = [*remote_settings(self.manifest).pod_secrets, *names_of(self.attributes.get("secrets"))]
        return make_pod(
            {**self.attributes, "secrets": secrets},
            command=container_command(self.manifest, self.code, call.step.name),
            environment={
                **first_environment(self.manifest, self.code),
                TASK_VARIABLE: self.document([call], task, parameters, gang),
            },
            labels={},
            annotations=pod_annotations(self.manifest, call),
            deadline_seconds=self.deadline(call),
        )


def _attempt(operator: MetaflowPodOperator, call: StepCall) -> int:
    """Return the attempt that the pod has run."""
    from .operator import attempt_of_pod

    return attempt_of_pod(((operator.last_seen or {}).get("metadata") or {}).get("annotations"), call.attempt)


def _as_pod(override: Any) -> Any:
    """Return the user's part of the pod as the client's class, which may have been given as plain data."""
    if not isinstance(override, Mapping):
        return override
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    return PodGenerator.deserialize_model_dict(dict(override))
