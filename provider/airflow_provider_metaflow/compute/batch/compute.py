"""Metaflow tasks in jobs of AWS Batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_metaflow._compat import TaskDeferred
from airflow_provider_metaflow.compute.remote import RemoteTask
from airflow_provider_metaflow.formats import TriggerEventData
from metaflow_orchestration.containers.batch_jobs import (
    ARRAY_SIZES,
    MAX_OVERRIDES_BYTES,
    container_overrides,
    job_definition,
    job_name,
    job_parameters,
    job_tags,
    node_overrides,
    overrides_size,
    task_environment,
)
from metaflow_orchestration.containers.command import TASK_VARIABLE, container_command, first_environment
from metaflow_orchestration.containers.objects import BatchObject
from metaflow_orchestration.containers.options import Attributes, OperatorArguments
from metaflow_orchestration.documents.task import OutcomeDocument
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.run.commands import NO_RETRY, StepCall

if TYPE_CHECKING:
    from .operator import MetaflowBatchOperator

_POLL_SECONDS = 10


@dataclass(slots=True, kw_only=True)
class BatchCompute(RemoteTask):
    """Runs a Metaflow task in a job, several as an array job, and a gang as a multi-node job.

    :param attributes: attributes of ``@batch``.
    :param arguments: arguments of Airflow's Batch operator that the user has set.
    """

    attributes: Attributes
    arguments: OperatorArguments
    _running: MetaflowBatchOperator | None = None

    def run(
        self, calls: Sequence[StepCall], parameters: Mapping[str, str] | None, gang: int | None
    ) -> list[OutcomeDocument | None]:
        """See :class:`~.remote.RemoteCompute`."""
        return self._watch(calls, self._operator(calls, parameters, gang), None)

    def resume(self, calls: Sequence[StepCall], event: TriggerEventData) -> list[OutcomeDocument | None]:
        """See :class:`~.remote.RemoteCompute`."""
        return self._watch(calls, self._operator(calls, None, None), event)

    def lingering(self, calls: Sequence[StepCall]) -> frozenset[str]:  # noqa: ARG002  (Batch forgets its jobs itself)
        """See :class:`~.remote.RemoteCompute`."""
        return frozenset()

    def kill(self) -> None:
        """End the job."""
        if self._running is not None:
            self._running.on_kill()

    def _watch(
        self, calls: Sequence[StepCall], operator: MetaflowBatchOperator, event: TriggerEventData | None
    ) -> list[OutcomeDocument | None]:
        self._running = operator
        error: Exception | None = None
        try:
            if event is not None:
                operator.execute_complete(self.context, event)
            else:
                operator.run_job(self.context)
        except TaskDeferred:
            raise
        except Exception as caught:  # the API's or the provider's: what counts is whether the tasks have a result
            error = caught
        except BaseException:
            operator.on_kill()
            raise
        finally:
            self._running = None
        documents = self.stored(calls, operator.attempt)
        if len(calls) == 1 and documents[0] is None:
            reason, code = operator.status_reason()
            raise self.failure(calls[0], reason, final=code == NO_RETRY) from error
        return documents

    def _operator(
        self, calls: Sequence[StepCall], parameters: Mapping[str, str] | None, gang: int | None
    ) -> MetaflowBatchOperator:
        from .operator import MetaflowBatchOperator

        call = calls[0]
        is_gang = gang is not None and gang > 1
        arguments = {name: value for name, value in self.arguments.items() if name != "array_jobs"}
        if not self.attributes.get("queue"):
            raise InvalidOptionError(
                "@batch has no queue.",
                flow=self.manifest.graph.name,
                step=call.step.name,
                hint="Set METAFLOW_BATCH_JOB_QUEUE or @batch(queue=…).",
            )
        operator = MetaflowBatchOperator(
            task_id=self.owner.task_id,
            job_name=job_name(self.manifest, call),
            job_queue=self.attributes["queue"],
            attempt=call.attempt,
            first_attempt=self.first_attempt,
            parameters=job_parameters(self.manifest, call),
            tags=job_tags(self.manifest, call, self.attributes),
            retry_strategy={"attempts": 1},
            submit_job_timeout=self.deadline(call),
            **{"poll_interval": _POLL_SECONDS, **arguments},
        )
        operator.prepare = lambda: self._fill(operator, calls, parameters, gang if is_gang else None)
        operator.has_result = lambda attempt: None not in self.stored(calls, attempt)
        return operator

    def _fill(
        self,
        operator: MetaflowBatchOperator,
        calls: Sequence[StepCall],
        parameters: Mapping[str, str] | None,
        gang: int | None,
    ) -> BatchObject:
        """Give a job what it is submitted with, and return its definition; not needed to attach to one."""
        call = calls[0]
        environment = task_environment(self.attributes)
        if call.ubf_context is not None and gang is None:
            # A gang of one has nobody to find; Metaflow runs it as on one machine.
            del environment["METAFLOW_RUNTIME_ENVIRONMENT"]
        overrides = container_overrides(
            self.attributes,
            {
                **first_environment(self.manifest, self.code),
                TASK_VARIABLE: self.document(calls, environment, parameters, gang),
            },
        )
        size = overrides_size(overrides)
        if size > MAX_OVERRIDES_BYTES:
            raise UnsupportedFeatureError(
                f"its container overrides have {size} bytes; AWS Batch takes {MAX_OVERRIDES_BYTES}.",
                flow=self.manifest.graph.name,
                step=call.step.name,
                hint="Shorten METAFLOW_INIT_SCRIPT.",
            )
        if gang is not None:
            operator.node_overrides = node_overrides(overrides, gang)
        else:
            operator.container_overrides = overrides
        if len(calls) in ARRAY_SIZES:
            operator.array_properties = {"size": len(calls)}
        return job_definition(
            self.attributes,
            command=container_command(self.manifest, self.code, call.step.name),
            platform=operator.platform(),
            gang=gang is not None,
            flow=self.manifest.graph.name,
            step=call.step.name,
        )
