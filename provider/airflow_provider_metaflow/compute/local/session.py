"""The runner process that serves the tasks of one task instance, replaced when a task needs another kind of it."""

from __future__ import annotations

from collections.abc import Mapping

from .runner import Runner
from .runner_process import RunnerSettings, process_variables


class Session:
    """At most one runner process at a time, which :meth:`close` ends."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._shape: Mapping[str, str] = {}

    def runner(self, settings: RunnerSettings) -> Runner:
        """Return a runner for a task, that of the task before if it will do.

        :param settings: how to start it.
        """
        shape = process_variables(settings.environment)
        if shape != self._shape:
            # Metaflow reads its configuration when it is imported; a step may have its own.
            self.close()
        if self._runner is None:
            self._shape = shape
            self._runner = Runner(settings).__enter__()
        return self._runner

    def close(self) -> None:
        """Kill a task that still runs and hang up."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            runner.close()
