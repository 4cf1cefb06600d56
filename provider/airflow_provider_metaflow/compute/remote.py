"""Runs Metaflow tasks in pods and Batch jobs, by operators of Airflow's providers that are made when a task runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from airflow_provider_metaflow._compat import TaskDeferred
from airflow_provider_metaflow.formats import TriggerEventData
from metaflow_orchestration.containers.command import encode_document, task_document
from metaflow_orchestration.containers.options import deadline_of, task_limit_of
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.documents.task import OutcomeDocument
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.run.commands import StepCall, resumed_variables, task_variables

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_metaflow.compute.local.processes import LocalCompute


@dataclass(slots=True)
class Progress:
    """What a task instance had done when it was deferred; JSON types, in Airflow's database until it resumes.

    :param current: the Metaflow task that was waited for.
    :param done: outcome documents of the tasks before it, by task id; in a recursion the last one only.
    :param iteration: number of the iteration of a recursion.
    :param failed: why tasks before it have failed, by task id.
    :param final: whether one of them asks for no other attempt.
    :param run_id: the Metaflow run; empty if a release before 0.2 has deferred the task.
    :param finals: task ids of those that ask for no other attempt.
    """

    current: str
    done: dict[str, OutcomeDocument] = field(default_factory=dict)
    iteration: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    final: bool = False
    run_id: str = ""
    finals: list[str] = field(default_factory=list)

    def to_json(self) -> Mapping[str, object]:
        """Return it as JSON types, from which :class:`Progress` is made again."""
        return asdict(self)


class RemoteCompute(Protocol):
    """A platform that runs Metaflow tasks outside of the worker."""

    def run(
        self, calls: Sequence[StepCall], parameters: Mapping[str, str] | None, gang: int | None
    ) -> list[OutcomeDocument | None]:
        """Run tasks and return their outcome documents; None where the task has failed.

        :param calls: the tasks; several of them are run as one array.
        :param parameters: for the start step, the parameters of the run.
        :param gang: number of nodes of a ``@parallel`` step.
        :raises TaskDeferred: if Airflow's triggerer waits for them.
        """

    def resume(self, calls: Sequence[StepCall], event: TriggerEventData) -> list[OutcomeDocument | None]:
        """Go on after a deferral, and return what :meth:`run` would have returned.

        :param calls: the tasks.
        :param event: what the trigger has seen.
        """

    def lingering(self, calls: Sequence[StepCall]) -> frozenset[str]:
        """Return the ids of tasks that still have a container which somebody must delete.

        :param calls: tasks that have a result, and that an earlier try may have lost sight of.
        """

    def kill(self) -> None:
        """End what runs."""


@dataclass(slots=True, kw_only=True)
class RemoteTask:
    """What the platforms share: the document for the container, and the ways to a task's outcome.

    :param owner: the step operator.
    :param context: Airflow's task context.
    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param variables: variables of the orchestrator.
    :param local: the worker's own access to the datastore.
    :param first_attempt: the first attempt since the task was cleared; containers of those before are ended.
    """

    owner: BaseOperator
    context: Context
    manifest: Manifest
    code: CodePackage
    variables: Mapping[str, str]
    local: LocalCompute
    first_attempt: int

    def document(
        self,
        calls: Sequence[StepCall],
        environment: Mapping[str, str],
        parameters: Mapping[str, str] | None,
        gang: int | None,
    ) -> str:
        """Return the variable that says what a container runs.

        :param calls: the tasks.
        :param environment: variables of the platform.
        :param parameters: for the start step, the parameters of the run.
        :param gang: number of nodes of a ``@parallel`` step.
        """
        call = calls[0]
        document = task_document(
            self.manifest,
            self.code,
            calls,
            environment={
                **dict(call.step.environment),
                **remote_settings(self.manifest).environment,
                **environment,
                **self.variables,
                **task_variables(self.code, call),
                **(resumed_variables(call.run_id) if self.local.resumed else {}),
            },
            parameters=parameters,
            inherited=self.local.inherited,
            gang=gang,
            time_limit=task_limit_of(call.step),
        )
        return encode_document(document, self.local.save)

    def deadline(self, call: StepCall) -> int:
        """Return after how many seconds the platform ends the task, whatever it does.

        :param call: the task.
        """
        return deadline_of(call.step)

    def stored(self, calls: Sequence[StepCall], attempt: int) -> list[OutcomeDocument | None]:
        """Return outcome documents from the datastore, None for tasks whose attempt has no result there.

        :param calls: the tasks.
        :param attempt: the attempt that ran, which is an earlier one where a lost task was found again.
        """
        call = calls[0]
        ids = [one.task_id for one in calls]
        return self.local.probe(call.step.name, call.run_id, ids, min_attempt=attempt)

    def failure(self, call: StepCall, reason: str, *, final: bool = False) -> StepFailedError:
        """Return the error of a task that failed.

        :param call: the task.
        :param reason: why.
        :param final: whether another attempt is of no use.
        """
        pathspec = f"{self.manifest.graph.name}/{call.run_id}/{call.step.name}/{call.task_id}"
        kind = FinalFailureError if final else StepFailedError
        return kind(
            f"task {pathspec}, attempt {call.attempt}, failed: {reason.strip(' .')}.",
            flow=self.manifest.graph.name,
            step=call.step.name,
        )


def deferred_again(deferral: TaskDeferred, progress: Progress) -> TaskDeferred:
    """Return a deferral of the step operator in place of one of the operator that it has made.

    :param deferral: what that operator has raised.
    :param progress: what the step operator must know when it resumes.
    """
    return TaskDeferred(
        trigger=deferral.trigger,
        method_name="resume",
        kwargs={"progress": progress.to_json()},
        timeout=deferral.timeout,
    )
