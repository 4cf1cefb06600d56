"""The operator that runs a function of ``@exit_hook`` after a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.compute.local.processes import LocalCompute
    from metaflow_orchestration.documents.manifest import Manifest

_SCRIPT = "metaflow.plugins.exit_hook.exit_hook_script"


class MetaflowExitHookOperator(BaseOperator):
    """Run a function of ``@exit_hook`` if the run ended as it is meant for; else skip.

    :param manifest: the compiled flow.
    :param function: name of the function in the flow file, or its import path.
    :param on_success: whether it is for runs that succeeded; else for those that failed.
    :param id_prefix: what stands before the step's name in the Airflow task ids of this flow.
    :param python: interpreter; default: ``[metaflow] python``, else Airflow's own.
    :param warm_process: taken and not used: a hook is no Metaflow task.
    """

    ui_color = "#f4f4f4"

    def __init__(
        self,
        *,
        manifest: Manifest,
        function: str,
        on_success: bool,
        id_prefix: str = "",
        python: str | None = None,
        warm_process: bool | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.function = function
        self.on_success = on_success
        self.id_prefix = id_prefix
        self.python = python
        self._compute: LocalCompute | None = None

    def execute(self, context: Context) -> None:
        """Run the function, or skip.

        :param context: Airflow's task context.
        """
        from airflow_provider_metaflow import settings
        from airflow_provider_metaflow._compat import AirflowSkipException
        from airflow_provider_metaflow.compute.local.processes import LocalCompute
        from airflow_provider_metaflow.execution.started_code import started_code
        from metaflow_orchestration.graph.identity import RUN_KEY, airflow_run_id, reported_run_id
        from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome

        ti: Any = context["ti"]
        graph = self.manifest.graph
        end = f"{self.id_prefix}{graph.end}"
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[end], run_ids=[ti.run_id]).get(ti.run_id, {})
        # In a mapped task group the hook is that of the run of the same instance.
        succeeded = str(states.get(end if ti.map_index < 0 else f"{end}_{ti.map_index}")) == "success"
        if succeeded != self.on_success:
            raise AirflowSkipException(f"The run has {'succeeded' if succeeded else 'failed'}.")
        first, reported = (
            ti.xcom_pull(task_ids=f"{self.id_prefix}{graph.start}", key=key, map_indexes=ti.map_index)
            for key in (XCOM_KEY, RUN_KEY)
        )
        run_id = reported_run_id(reported, airflow_run_id(ti.dag_id, ti.run_id, self.id_prefix, ti.map_index))
        self._compute = LocalCompute(
            manifest=self.manifest,
            # The code that the run started with.
            code=started_code(self.manifest, InstanceOutcome.from_json(first).code) if first else self.manifest.code,
            cache=settings.cache(),
            python=self.python or settings.python(),
            warm=False,
            idle_seconds=0,
            links={},
            variables={},
            on_line=lambda _, text: self.log.info("%s", text),
        )
        with self._compute:
            self._compute.run_module(_SCRIPT, self.manifest.code.flow_file, self.function, f"{graph.name}/{run_id}")

    def on_kill(self) -> None:
        """Kill the function with all its processes."""
        if self._compute is not None:
            self._compute.close()
