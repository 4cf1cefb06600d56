"""All Metaflow tasks of a task instance: a single one, or a pack of them in a very wide foreach."""

from __future__ import annotations

from dataclasses import dataclass

from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.run.outcome import TaskOutcome

from .calls import pathspec
from .final_failures import FinalFailures
from .step_tasks import Inputs, StepTasks


@dataclass(frozen=True, slots=True)
class Pack:
    """Brings all tasks of a task instance to an end, without those that earlier tries have finished.

    :param tasks: brings single tasks to an end.
    :param final_failures: which tasks want no other attempt since an earlier try.
    """

    tasks: StepTasks
    final_failures: FinalFailures

    def run(self, inputs: Inputs) -> list[TaskOutcome]:
        """Run every task; one that fails does not keep the others of a pack from running.

        :param inputs: the tasks.
        :raises StepFailedError: if one of them has failed.
        :raises TaskDeferred: if Airflow's triggerer waits for them.
        """
        tasks, progress = self.tasks, self.tasks.progress
        is_pack = len(inputs) > 1
        if is_pack and tasks.definition.placement.runs_arrays:
            return self._run_array(inputs)
        # After a deferral, the try has looked for them before.
        finished = {} if progress.is_resumed else tasks.finished(inputs)
        if is_pack and not progress.is_resumed:
            self._take_final_failures()
        outcomes = []
        for path, paths in inputs.items():
            name = tasks.calls.task_id(path)
            if path in finished:
                tasks.log.info("Metaflow task %s has a result of an earlier try", name)
                outcomes.append(finished[path])
            if path in finished or name in progress.failed:
                continue
            try:
                outcomes.append(tasks.run(path, paths))
            except StepFailedError as error:
                if not is_pack:
                    raise
                tasks.log.error("%s", error)  # noqa: TRY400  (the task's own log has the traceback)
                progress.add_failure(name, error)
        if progress.failed:
            self._keep_final_failures()
            raise self._failure(len(progress.failed), len(inputs), next(iter(progress.failed.values())))
        return outcomes

    def _run_array(self, inputs: Inputs) -> list[TaskOutcome]:
        """Run all tasks that have no result yet as one array of the platform."""
        tasks = self.tasks
        known = tasks.finished(inputs)
        calls = {path: tasks.calls.call(path, paths) for path, paths in inputs.items() if path not in known}
        for path, call in list(calls.items()):
            cloned = tasks.clone(call, path)
            if cloned is not None:
                known[path] = cloned
                del calls[path]
        if calls:
            known.update(tasks.run_array(calls))
        failed = [pathspec(tasks.definition.graph.name, call) for path, call in calls.items() if path not in known]
        if failed:
            raise self._failure(len(failed), len(inputs), failed[0])
        return [known[path] for path in inputs]

    def _failure(self, failed: int, of: int, first: str) -> StepFailedError:
        # Others may succeed in another try; those that asked for none are left out of it.
        kind = FinalFailureError if self.tasks.progress.is_final else StepFailedError
        graph, step = self.tasks.definition.graph, self.tasks.definition.step
        return kind(f"{failed} of {of} packed tasks failed; the first: {first}", flow=graph.name, step=step.name)

    def _take_final_failures(self) -> None:
        """Leave out the tasks that asked for no further attempt in a try since the last clear."""
        if self.tasks.earlier.minimum is None:
            return
        found = self.final_failures.load()
        self.tasks.progress.failed.update(found)
        self.tasks.progress.finals.update(found)

    def _keep_final_failures(self) -> None:
        progress = self.tasks.progress
        if progress.finals and not progress.is_final:
            self.final_failures.save({name: progress.failed[name] for name in sorted(progress.finals)})
