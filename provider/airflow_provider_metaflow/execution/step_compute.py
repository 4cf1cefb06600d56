"""What runs the tasks of a try: processes of the worker, and the platform of its pods or Batch jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.compute.platform import make_remote
from airflow_provider_metaflow.compute.remote import RemoteCompute
from metaflow_orchestration.documents.task import Inherited
from metaflow_orchestration.run.commands import StepCall

from .run_context import DagRunContext
from .step_definition import StepDefinition
from .step_log import StepLog

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.operators.step import MetaflowStepOperator


class StepCompute:
    """Makes what runs the tasks of a try when it is first needed, and ends it.

    :param operator: the operator.
    :param context: Airflow's task context.
    :param dag_run: the DAG run around the try.
    :param definition: the step, as it is deployed now.
    :param inherited: of a run that resumes another one: where its parameters come from.
    :param resumed: whether tasks before this one may have seen other parameters than those of the run.
    """

    def __init__(
        self,
        operator: MetaflowStepOperator,
        context: Context,
        dag_run: DagRunContext,
        definition: StepDefinition,
        *,
        inherited: Inherited | None,
        resumed: bool,
    ) -> None:
        self._operator, self._context, self._dag_run = operator, context, dag_run
        self.definition = definition
        """The step, as the tasks use it that are run next."""
        self._inherited, self._resumed = inherited, resumed
        self._log = StepLog(operator.log)
        self._local: LocalCompute | None = None
        self._platform: RemoteCompute | None = None

    def use(self, definition: StepDefinition) -> None:
        """End what runs, and use another definition of the step from now on.

        :param definition: the step, as it was when the run began.
        """
        self.definition = definition
        self.close()

    def close(self) -> None:
        """Kill a Metaflow task that still runs, and hang up."""
        if self._platform is not None:
            platform, self._platform = self._platform, None
            platform.kill()
        if self._local is not None:
            local, self._local = self._local, None
            local.close()

    def leave_running(self) -> None:
        """Let what runs on the platform go on when this process ends, since Airflow's triggerer waits for it."""
        self._platform = None

    def run_here(self, call: StepCall, parameters: Mapping[str, str] | None) -> dict[str, Any]:
        """Run a task as a process of the worker, and return its outcome document.

        :param call: the task.
        :param parameters: for the start step, the parameters of the run.
        :raises StepFailedError: if it failed.
        """
        has_failed = True
        try:
            document = self.local().run(call, parameters)
            has_failed = False
        finally:
            self._log.end(failed=has_failed)
        return document

    def local(self) -> LocalCompute:
        """Return the processes of the worker, which are also its access to the datastore."""
        if self._local is None:
            warm = self._operator.warm_process
            self._local = LocalCompute(
                manifest=self.definition.manifest,
                code=self.definition.code,
                cache=settings.cache(),
                python=self._operator.python or settings.python(),
                warm=settings.warm_process() if warm is None else warm,
                idle_seconds=settings.warm_process_idle_seconds(),
                links=self._dag_run.links(),
                variables=self._dag_run.variables(),
                on_line=self._log.write,
                inherited=self._inherited,
                resumed=self._resumed,
            )
        return self._local

    def platform(self, first_attempt: int) -> RemoteCompute:
        """Return the platform of the step's pods or Batch jobs.

        :param first_attempt: the first attempt since the task was cleared.
        """
        if self._platform is None:
            self._platform = make_remote(
                self._operator,
                self.definition.placement,
                self._context,
                self.definition.manifest,
                self.definition.code,
                self._dag_run.task_variables(),
                self.local(),
                first_attempt,
            )
        return self._platform
