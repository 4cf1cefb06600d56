"""The operator that runs one step of a flow: one Metaflow task, or a pack of them in a very wide foreach."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_metaflow._compat import AirflowFailException
from airflow_provider_metaflow.links.metaflow import MetaflowCardsLink, MetaflowRunLink
from metaflow_orchestration.exceptions import MetaflowProviderError, StepFailedError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context
    from jinja2 import Environment

    from airflow_provider_metaflow.execution.step_execution import StepExecution
    from metaflow_orchestration.containers.placement import Placement
    from metaflow_orchestration.documents.manifest import Manifest

_REMOTE = ("kubernetes", "batch")
"""Values of :class:`~metaflow_orchestration.graph.compute.Compute`, which need not be imported at a parse."""


class MetaflowStepOperator(BaseOperator):
    """Run one step of a compiled flow: as a process of the worker, in pods of Kubernetes, or in AWS Batch jobs.

    :param manifest: the compiled flow.
    :param step: name of the step.
    :param id_prefix: what stands before the step's name in the Airflow task ids of this flow.
    :param parameters: for the start step inside a larger DAG: values by parameter name; templated.
        None takes the parameters of the DAG run.
    :param fills_parameters: whether ``parameters`` stand in only for those that the DAG run leaves null; templates for
        others are not rendered.
    :param python: interpreter of the step; default: ``[metaflow] python``, else Airflow's own.
    :param warm_process: whether to use a process that has Metaflow imported; default: as configured.
    :param compute: ``"local"``, ``"kubernetes"`` or ``"batch"``; default: as the step's decorators say.
    :param kubernetes: for pods: attributes of ``@kubernetes``, which win over the decorator, and arguments of Airflow's
        ``KubernetesPodOperator``; ``pod_override`` is a ``V1Pod``, or the same as plain data, laid over the pod.
    :param batch: for AWS Batch jobs: attributes of ``@batch``, which win over the decorator, and arguments of Airflow's
        ``BatchOperator``; ``array_jobs`` says whether the tasks of a pack run as one array job.
    """

    template_fields: Sequence[str] = ("parameters",)
    template_fields_renderers = {"parameters": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (MetaflowRunLink(), MetaflowCardsLink())
    ui_color = "#e8f0fe"

    def __init__(  # noqa: PLR0913  (keyword-only)
        self,
        *,
        manifest: Manifest,
        step: str,
        id_prefix: str = "",
        parameters: Mapping[str, Any] | None = None,
        fills_parameters: bool = False,
        python: str | None = None,
        warm_process: bool | None = None,
        compute: str | None = None,
        kubernetes: Mapping[str, Any] | None = None,
        batch: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.step = step
        self.id_prefix = id_prefix
        self.parameters = parameters
        self.fills_parameters = fills_parameters
        self.python = python
        self.warm_process = warm_process
        self.compute = compute
        self.kubernetes = kubernetes
        self.batch = batch
        self.placement: Placement | None = None
        """Where the step runs as it is deployed now; None for a process of the worker."""
        if compute is not None or any(one.name in _REMOTE for one in manifest.graph.step(step).decorators):
            self.placement = self.place(manifest)
        if self.placement is not None and self.placement.compute == "batch":
            from airflow.providers.amazon.aws.links.batch import BatchJobDetailsLink
            from airflow.providers.amazon.aws.links.logs import CloudWatchEventsLink

            self.operator_extra_links = (*self.operator_extra_links, BatchJobDetailsLink(), CloudWatchEventsLink())
        self.pack_size: int | None = None
        """How many tasks of this foreach's body a task instance takes; None means as few as Airflow's limit allows."""
        self._execution: StepExecution | None = None

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Render the parameters that the run was not given; called by Airflow before each try.

        :param context: Airflow's task context.
        :param jinja_env: what renders.
        :raises AirflowFailException: if a template cannot be rendered, since another try would meet the same.
        """
        if not self.parameters:
            return
        from airflow_provider_metaflow.execution.templates import render_parameters

        environment = jinja_env or self.get_template_env()
        graph = self.manifest.graph
        try:
            self.parameters = render_parameters(
                graph,
                self.parameters,
                context,
                lambda value, names: self.render_template(value, names, environment),  # type: ignore[arg-type]
                fill=self.fills_parameters,
            )
        except MetaflowProviderError as error:
            raise AirflowFailException(str(error)) from None

    def execute(self, context: Context) -> Any:
        """Run the tasks of this task instance and report their outcomes.

        :param context: Airflow's task context.
        """
        try:
            return self._execute(context)
        except (StepFailedError, AirflowFailException) as error:
            # Where in this package it was raised says nothing to the reader of the log.
            raise error.with_traceback(None) from None

    def resume(self, context: Context, event: dict[str, Any], progress: dict[str, Any]) -> Any:
        """Go on when what the triggerer has waited for is over; called by Airflow after a deferral.

        :param context: Airflow's task context.
        :param event: what the trigger has seen.
        :param progress: what had been done before.
        """
        from airflow_provider_metaflow.compute.remote import Progress

        try:
            return self._execute(context, progress=Progress(**progress), event=event)
        except (StepFailedError, AirflowFailException) as error:
            raise error.with_traceback(None) from None

    def _execute(self, context: Context, **resumed: Any) -> Any:
        # Here and not above, since every parse of a DAG file imports this module.
        from airflow_provider_metaflow.execution.step_execution import FINAL_ERRORS, StepExecution

        try:
            self._execution = StepExecution(self, context, **resumed)
            return self._execution.run()
        except FINAL_ERRORS as error:
            where = "" if error.flow else f"flow {self.manifest.graph.name} step {self.step}: "
            raise AirflowFailException(f"{where}{error}") from error
        finally:
            if self._execution is not None:
                self._execution.close()

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """Return the fields that Airflow keeps of the operator in its database."""
        fields: frozenset[str] = super().get_serialized_fields()  # type: ignore[no-untyped-call]
        return fields | {"metaflow_record"}

    @property
    def metaflow_record(self) -> str | None:
        """What the page in Airflow's web interface knows of the flow; of the start step only."""
        if self.step != self.manifest.graph.start:
            return None
        from airflow_provider_metaflow.plan.record import shown_record

        is_mapped = self.get_closest_mapped_task_group() is not None
        # Templates and values of a flow in a larger DAG, and fixed values of a whole DAG.
        given = {*(self.parameters or ()), *getattr(self.get_dag(), "metaflow_fixed", ())}
        return shown_record(self.manifest, prefix=self.id_prefix, is_mapped=is_mapped, given=given)

    @property
    def metaflow_pathspec(self) -> str | None:
        """The Metaflow task that was run last, for the links."""
        ran = self._execution.executed.pathspecs if self._execution else []
        return ran[-1] if ran else None

    def place(self, manifest: Manifest) -> Placement:
        """Return where the step runs, with the options of the DAG file.

        :param manifest: the compiled flow; of a run that began before a deployment, the one that it began with.
        :raises MetaflowProviderError: if the step cannot run there, or not with these options.
        """
        from metaflow_orchestration.containers.placement import place_step

        return place_step(manifest, self.step, self.compute, self.kubernetes, self.batch)

    @property
    def runs_on_worker(self) -> bool:
        """Whether the step is a process of Airflow's worker, as it is deployed now."""
        return self.placement is None or self.placement.is_local

    @property
    def runs_arrays(self) -> bool:
        """Whether all tasks of a task instance run as one array of the platform, as the step is deployed now."""
        return self.placement is not None and self.placement.runs_arrays

    def on_kill(self) -> None:
        """Kill the running Metaflow task with all its processes."""
        if self._execution is not None:
            self._execution.close()

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage of the tasks that were run; called by Airflow's OpenLineage provider."""
        from airflow_provider_metaflow.execution.lineage import step_lineage

        doc = self.manifest.graph.step(self.step).doc
        executed = self._execution.executed if self._execution else None
        ran, inputs = (executed.pathspecs, executed.sources) if executed else ([], [])
        return step_lineage(self.manifest.graph.name, ran, inputs, doc)

    def get_openlineage_facets_on_failure(self, ti: Any) -> OperatorLineage[Any, Any]:
        """Return the same for tasks that failed."""
        return self.get_openlineage_facets_on_complete(ti)

    def airflow_id(self, name: str) -> str:
        """Return the Airflow task id of a step or splits task of the same flow.

        :param name: its name.
        """
        return f"{self.id_prefix}{name}"
