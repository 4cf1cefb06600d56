"""The operator that runs one step of a flow: one Metaflow task, or a pack of them in a very wide foreach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_metaflow.links.metaflow import MetaflowCardsLink, MetaflowRunLink

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_metaflow.flow.manifest import Manifest

    from .execution import StepExecution

MAP_LABEL = "metaflow_split"
"""Context variable that ``map_index_template`` shows: the value of the foreach."""


class MetaflowStepOperator(BaseOperator):
    """Run one step of a compiled flow as a process of the worker.

    :param manifest: the compiled flow.
    :param step: name of the step.
    :param id_prefix: what stands before the step's name in the Airflow task ids of this flow.
    :param parameters: for the start step inside a larger DAG: values by parameter name; templated.
        None takes the parameters of the DAG run.
    :param python: interpreter of the step; default: ``[metaflow] python``, else Airflow's own.
    :param warm_process: whether to use a process that has Metaflow imported; default: as configured.
    """

    template_fields: Sequence[str] = ("parameters",)
    template_fields_renderers = {"parameters": "json"}
    operator_extra_links = (MetaflowRunLink(), MetaflowCardsLink())
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        manifest: Manifest,
        step: str,
        id_prefix: str = "",
        parameters: Mapping[str, Any] | None = None,
        python: str | None = None,
        warm_process: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.step = step
        self.id_prefix = id_prefix
        self.parameters = parameters
        self.python = python
        self.warm_process = warm_process
        self._execution: StepExecution | None = None

    def execute(self, context: Context) -> Any:
        """Run the tasks of this task instance and report their outcomes.

        :param context: Airflow's task context.
        """
        # Here and not above, since every parse of a DAG file imports this module.
        from airflow_provider_metaflow._compat import AirflowFailException
        from airflow_provider_metaflow.exceptions import MissingResultError, ParameterValueError

        from .execution import StepExecution

        self._execution = StepExecution(self, context)
        try:
            return self._execution.run()
        except (ParameterValueError, MissingResultError) as error:
            # Another try would meet the same input.
            raise AirflowFailException(str(error)) from error
        finally:
            self._execution.close()

    @property
    def metaflow_pathspec(self) -> str | None:
        """The Metaflow task that was run last, for the links."""
        ran = self._execution.pathspecs if self._execution else []
        return ran[-1] if ran else None

    def on_kill(self) -> None:
        """Kill the running Metaflow task with all its processes."""
        if self._execution is not None:
            self._execution.close()

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage of the tasks that were run; called by Airflow's OpenLineage provider."""
        from .lineage import step_lineage

        execution = self._execution
        doc = self.manifest.graph.step(self.step).doc
        ran, inputs = (execution.pathspecs, execution.sources) if execution else ([], [])
        return step_lineage(self.manifest.graph.name, ran, inputs, doc)

    def get_openlineage_facets_on_failure(self, ti: Any) -> OperatorLineage[Any, Any]:
        """Return the same for tasks that failed."""
        return self.get_openlineage_facets_on_complete(ti)

    def airflow_id(self, name: str) -> str:
        """Return the Airflow task id of a step or splits task of the same flow.

        :param name: its name.
        """
        return f"{self.id_prefix}{name}"
