"""``MetaflowDag`` and ``MetaflowTaskGroup``: a flow as an Airflow DAG, or as a part of one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, TaskGroup
from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext
from airflow.sdk.definitions.taskgroup import MappedTaskGroup

from airflow_provider_metaflow.plan.dag import plan_of
from airflow_provider_metaflow.plan.parameters import is_template
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph

from .arguments import Watchers, check_default_args, first_line, make_arguments, with_doc_file
from .claims import claim_dag_id
from .compiled import find_manifest
from .emit import Emission

if TYPE_CHECKING:
    from airflow_provider_metaflow.plan.translator import FlowTranslator

Overrides = Mapping[str, Mapping[str, Any]]


class MetaflowDag(DAG):
    """An Airflow DAG that runs a Metaflow flow.

    All further keyword arguments are those of :class:`airflow.sdk.DAG` and win over what the flow says.

    :param flow: a flow file, or the manifest that ``airflow create`` wrote; relative to the DAG file.
    :param dag_id: default: the name of the deployment.
    :param pool: pool of all steps.
    :param max_workers: how many tasks of a run may run at a time.
    :param step_overrides: operator arguments by step, e.g. ``{"train": {"queue": "gpu"}}``.
    :param translator: decides operator arguments by step.
    :param options: options before the subcommand when the flow file is compiled, e.g. ``["--with", "retry"]``.
    :param compile_options: options of ``create`` for it, e.g. ``["--tag", "nightly"]``.
    :param python: interpreter of compiler and steps.
    :param project_root: folder that the flow is started from, if not its own, e.g. the root of its repository; relative
        to the DAG file. It is packaged, steps run in it, and it can be imported from.
    :param warm_process: whether steps run in a process that has Metaflow imported.
    :param compute: where all steps run: ``"local"``, ``"kubernetes"`` or ``"batch"``; default: as their decorators say.
    :param kubernetes: options of all pods; see :class:`MetaflowStepOperator`.
    :param batch: options of all AWS Batch jobs; see :class:`MetaflowStepOperator`.
    :param event_watchers: Airflow's ``AssetWatcher``s by event of ``@trigger``, e.g. of a message queue.
    :param parameters: values by parameter name, in place of the defaults of the flow. A template, e.g.
        ``{"ds": "{{ ds }}"}``, is rendered when the run starts, for scheduled, manual and backfilled runs; a value that
        a run is triggered with wins.
    """

    def __init__(  # noqa: PLR0913  (keyword-only; the user's interface)
        self,
        flow: str | Path,
        dag_id: str | None = None,
        *,
        pool: str | None = None,
        max_workers: int | None = None,
        step_overrides: Overrides | None = None,
        translator: FlowTranslator | None = None,
        options: Sequence[str] = (),
        compile_options: Sequence[str] = (),
        python: str | None = None,
        project_root: str | Path | None = None,
        warm_process: bool | None = None,
        compute: str | None = None,
        kubernetes: Mapping[str, Any] | None = None,
        batch: Mapping[str, Any] | None = None,
        event_watchers: Watchers | None = None,
        parameters: Mapping[str, Any] | None = None,
        **dag_arguments: Any,
    ) -> None:
        caller = sys._getframe(1).f_code.co_filename
        manifest = find_manifest(flow, caller, dag_id, options, compile_options, python, project_root)
        graph = manifest.graph
        given = dict(parameters or {})
        _check_names(graph, given)
        overrides = step_overrides or {}
        _check_overrides(graph, overrides)
        if dag_id:
            _check_id(dag_id, graph)
        name = dag_id or manifest.deployment.name
        claim_dag_id(name, manifest)
        templates = {name: value for name, value in given.items() if is_template(value)}
        fixed = {name: value for name, value in given.items() if name not in templates}
        arguments = make_arguments(
            manifest,
            name,
            max_workers=max_workers,
            watchers=event_watchers or {},
            given=with_doc_file(dag_arguments, caller),
            fixed=fixed,
            templates=templates,
        )
        super().__init__(name, **arguments)
        self.metaflow_manifest = manifest
        self.metaflow_fixed = tuple(fixed)
        Emission(
            manifest=manifest,
            plan=plan_of(manifest),
            dag=self,
            group=None,
            id_prefix="",
            shared=_shared(pool or manifest.deployment.worker_pool, python, warm_process),
            compute=_given(compute=compute, kubernetes=kubernetes, batch=batch),
            start={"parameters": templates, "fills_parameters": True} if templates else {},
            translator=translator,
            overrides=overrides,
        ).emit()


class MetaflowTaskGroup(TaskGroup):
    """A task group that runs a Metaflow flow inside a larger DAG.

    :param flow: as for :class:`MetaflowDag`.
    :param group_id: default: the name of the flow.
    :param parameters: values by parameter name; templated, and may be XComs of upstream tasks. Others take the
        defaults of the flow.
    :param group_arguments: further arguments of :class:`airflow.sdk.TaskGroup`.

    The other parameters are those of :class:`MetaflowDag`.
    """

    def __init__(  # noqa: PLR0913  (keyword-only; the user's interface)
        self,
        flow: str | Path,
        group_id: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        pool: str | None = None,
        max_workers: int | None = None,
        step_overrides: Overrides | None = None,
        translator: FlowTranslator | None = None,
        options: Sequence[str] = (),
        compile_options: Sequence[str] = (),
        python: str | None = None,
        project_root: str | Path | None = None,
        warm_process: bool | None = None,
        compute: str | None = None,
        kubernetes: Mapping[str, Any] | None = None,
        batch: Mapping[str, Any] | None = None,
        **group_arguments: Any,
    ) -> None:
        caller = sys._getframe(1).f_code.co_filename
        manifest = find_manifest(flow, caller, None, options, compile_options, python, project_root)
        graph = manifest.graph
        if manifest.deployment.notifications is not None:
            raise InvalidOptionError(
                "tells of the end of its runs, but as a part of a DAG it has no run of its own.",
                flow=graph.name,
                hint="Remove the --notify options, and set on_failure_callback of the DAG.",
            )
        _warn_of_schedule(graph)
        given = dict(parameters or {})
        _check_parameters(graph, given)
        overrides = step_overrides or {}
        _check_overrides(graph, overrides)
        group_arguments.setdefault("tooltip", first_line(graph.doc))
        super().__init__(group_id=group_id or graph.name, **group_arguments)
        check_default_args(graph, group_arguments.get("default_args") or {}, "MetaflowTaskGroup")
        plan = plan_of(manifest)
        dag = self.dag or DagContext.get_current()
        if dag is None:
            raise InvalidOptionError(
                "MetaflowTaskGroup stands in no DAG.", flow=graph.name, hint="Use it in `with DAG(…):`."
            )
        if plan.segments and _is_mapped(self):
            raise InvalidOptionError(
                "has a foreach and stands in a mapped task group; Airflow cannot nest mapped task groups.",
                flow=graph.name,
                hint="Loop inside the flow, or trigger one DAG run per item.",
            )
        _warn_of_trigger_rule(graph, dag.default_args)
        self.metaflow_manifest = manifest
        shared = _shared(pool or manifest.deployment.worker_pool, python, warm_process)
        if max_workers:
            shared["max_active_tis_per_dagrun"] = max_workers
        TaskGroupContext.push(self)
        try:
            self.metaflow_tasks = Emission(
                manifest=manifest,
                plan=plan,
                dag=dag,
                group=self,
                id_prefix=str(self.child_id("")),  # type: ignore[no-untyped-call]
                shared=shared,
                compute=_given(compute=compute, kubernetes=kubernetes, batch=batch),
                start={"parameters": given},
                translator=translator,
                overrides=overrides,
            ).emit()
        finally:
            TaskGroupContext.pop()

    @property
    def pathspec(self) -> Any:
        """The run's pathspec ``Flow/run`` as an XCom of the end step, for downstream tasks.

        :raises InvalidOptionError: if the end step pushes none.
        """
        graph = self.metaflow_manifest.graph
        end: BaseOperator = self.metaflow_tasks[graph.end]
        if not end.do_xcom_push:
            raise InvalidOptionError(
                "`pathspec` is its XCom, but it has do_xcom_push=False.",
                flow=graph.name,
                step=graph.end,
                hint=f"Add step_overrides={{{graph.end!r}: {{'do_xcom_push': True}}}}.",
            )
        return end.output


def _warn_of_schedule(graph: FlowGraph) -> None:
    """Airflow shows it as a warning of the DAG."""
    ignored = [name for name, found in (("@schedule", graph.schedule), ("triggers", graph.triggers)) if found]
    if ignored:
        warnings.warn(
            f"flow {graph.name}: {' and '.join(ignored)} do not count inside a larger DAG, whose schedule does.",
            stacklevel=3,
        )


def _warn_of_trigger_rule(graph: FlowGraph, default_args: Mapping[str, Any]) -> None:
    """Warn of what does not count; the default_args of a larger DAG are for its other tasks, too."""
    if "trigger_rule" in default_args:
        warnings.warn(
            f"flow {graph.name}: the trigger_rule of default_args does not count for its steps, of which the flow "
            "decides when they run.",
            stacklevel=3,
        )


def _is_mapped(group: TaskGroup | None) -> bool:
    while group is not None:
        if isinstance(group, MappedTaskGroup):
            return True
        group = group.parent_group
    return False


def _shared(pool: str | None, python: str | None, warm_process: bool | None) -> dict[str, Any]:
    return _given(pool=pool, python=python, warm_process=warm_process)


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _check_names(graph: FlowGraph, given: Mapping[str, Any]) -> None:
    known = [parameter.name for parameter in graph.parameters]
    for name in given:
        if name not in known:
            raise InvalidOptionError(
                f"has no parameter {name!r}.",
                flow=graph.name,
                hint=f"Known are: {', '.join(known) or 'none'}.",
            )


def _check_parameters(graph: FlowGraph, given: Mapping[str, Any]) -> None:
    _check_names(graph, given)
    for parameter in graph.parameters:
        if parameter.required and parameter.name not in given:
            raise InvalidOptionError(
                f"parameter {parameter.name!r} is required but not given.",
                flow=graph.name,
                hint="Add it to `parameters`.",
            )


def _check_overrides(graph: FlowGraph, overrides: Overrides) -> None:
    if overrides:
        from airflow_provider_metaflow.plan.translator import check_overrides

        check_overrides(graph, overrides, BaseOperator)


def _check_id(dag_id: str, graph: FlowGraph) -> None:
    from metaflow_orchestration.graph.naming import check_name

    check_name(dag_id, graph.name)


__all__ = ["MetaflowDag", "MetaflowTaskGroup"]
