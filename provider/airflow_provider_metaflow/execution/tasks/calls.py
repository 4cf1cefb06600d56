"""The ids of the Metaflow tasks of a try, and what they are called with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from metaflow_orchestration.graph.identity import Attempt, old_task_id, task_id
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import StepCall
from metaflow_orchestration.run.contexts import IndexPath


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCalls:
    """Makes the calls of the tasks of a try.

    :param step: the step.
    :param run_id: Metaflow run id.
    :param attempt: the attempt that the try makes.
    :param origin_run: of a run that resumes another one: that one's id.
    :param has_old_ids: whether an older release has deferred the try, whose containers are named after its task ids.
    """

    step: Step
    run_id: str
    attempt: Attempt
    origin_run: str | None
    has_old_ids: bool

    def call(self, path: IndexPath, inputs: tuple[str, ...], iteration: int = 0) -> StepCall:
        """Return the call of a task.

        :param path: index in every enclosing foreach.
        :param inputs: ``run/step/task`` of the tasks that it takes artifacts from.
        :param iteration: round of a recursive switch.
        """
        return StepCall(
            step=self.step,
            run_id=self.run_id,
            task_id=self.task_id(path, iteration),
            attempt=self.attempt.number,
            max_user_retries=self.attempt.max_user_retries,
            inputs=inputs,
            split_index=0 if self.step.gang else (path[-1] if path else None),
            ubf_context="ubf_control" if self.step.gang else None,
            origin_run=self.origin_run,
        )

    def task_id(self, path: IndexPath, iteration: int = 0) -> str:
        """Return the id of a task.

        :param path: index in every enclosing foreach.
        :param iteration: round of a recursive switch.
        """
        generation = self.attempt.generation
        if self.has_old_ids:
            return old_task_id(path, iteration=iteration, generation=generation)
        return task_id(self.step.name, path, iteration=iteration, generation=generation)


@dataclass(frozen=True, slots=True)
class ExecutedTasks:
    """The tasks that a try has run itself; neither those of an earlier try nor clones of those of another run.

    :param pathspecs: their ``Flow/run/step/task``, in the order in which they began.
    :param sources: ``run/step/task`` of those that they took artifacts from.
    """

    pathspecs: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, flow: str, calls: Iterable[StepCall]) -> None:
        """Note tasks that begin now.

        :param flow: name of the flow.
        :param calls: the tasks.
        """
        calls = list(calls)
        self.pathspecs.extend(pathspec(flow, call) for call in calls)
        self.sources.extend(dict.fromkeys(one for call in calls for one in call.inputs))


def pathspec(flow: str, call: StepCall) -> str:
    """Return ``Flow/run/step/task`` of a task.

    :param flow: name of the flow.
    :param call: the task.
    """
    return f"{flow}/{call.run_id}/{call.step.name}/{call.task_id}"
