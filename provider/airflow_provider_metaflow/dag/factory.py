"""``MetaflowDag`` and ``MetaflowTaskGroup``: a flow as an Airflow DAG, or as a part of one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, TaskGroup

from airflow_provider_metaflow._compat import TaskGroupContext
from airflow_provider_metaflow.plan.dag import plan_of
from metaflow_orchestration.exceptions import InvalidOptionError

from .arguments import Watchers, check_default_args, first_line, make_arguments, with_doc_file
from .checks import (
    check_notifications,
    check_overrides,
    check_parameters,
    claimed_id,
    dag_around,
    templates_and_values,
    warn_of_schedule,
    warn_of_trigger_rule,
)
from .compiled import find_manifest
from .emit import Emission

if TYPE_CHECKING:
    from airflow_provider_metaflow.plan.translator import FlowTranslator
    from metaflow_orchestration.documents.manifest import Manifest

Overrides = Mapping[str, Mapping[str, Any]]


class MetaflowDag(DAG):
    """An Airflow DAG that runs a Metaflow flow.

    All further keyword arguments are those of :class:`airflow.sdk.DAG` and win over what the flow says.

    ```python
    from airflow_provider_metaflow import MetaflowDag

    dag = MetaflowDag("flows/training.py", max_workers=8, step_overrides={"train": {"queue": "gpu"}})
    ```

    New in version 0.1.0.

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
        templates, fixed = templates_and_values(manifest.graph, parameters or {})
        check_overrides(manifest.graph, step_overrides or {})
        name = claimed_id(dag_id, manifest)
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
            shared=_shared(manifest, pool, python, warm_process),
            compute=_given(compute=compute, kubernetes=kubernetes, batch=batch),
            start={"parameters": templates, "fills_parameters": True} if templates else {},
            translator=translator,
            overrides=step_overrides or {},
        ).emit()


class MetaflowTaskGroup(TaskGroup):
    """A task group that runs a Metaflow flow inside a larger DAG.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_metaflow import MetaflowTaskGroup

    with DAG("nightly", schedule="@daily"):
        training = MetaflowTaskGroup("flows/training.py", parameters={"day": "{{ ds }}"})
    ```

    New in version 0.1.0.

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
        check_notifications(manifest)
        warn_of_schedule(graph)
        check_parameters(graph, parameters or {})
        check_overrides(graph, step_overrides or {})
        group_arguments.setdefault("tooltip", first_line(graph.doc))
        super().__init__(group_id=group_id or graph.name, **group_arguments)
        check_default_args(graph, group_arguments.get("default_args") or {}, "MetaflowTaskGroup")
        plan = plan_of(manifest)
        dag = dag_around(self, plan, graph)
        warn_of_trigger_rule(graph, dag.default_args)
        self.metaflow_manifest = manifest
        TaskGroupContext.push(self)
        try:
            self.metaflow_tasks = Emission(
                manifest=manifest,
                plan=plan,
                dag=dag,
                group=self,
                id_prefix=str(self.child_id("")),  # type: ignore[no-untyped-call]
                shared=_shared(manifest, pool, python, warm_process, max_workers),
                compute=_given(compute=compute, kubernetes=kubernetes, batch=batch),
                start={"parameters": dict(parameters or {})},
                translator=translator,
                overrides=step_overrides or {},
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


def _shared(
    manifest: Manifest, pool: str | None, python: str | None, warm_process: bool | None, max_workers: int | None = None
) -> dict[str, Any]:
    """Return the operator arguments of all tasks."""
    return _given(
        pool=pool or manifest.deployment.worker_pool,
        python=python,
        warm_process=warm_process,
        max_active_tis_per_dagrun=max_workers or None,
    )


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


__all__ = ["MetaflowDag", "MetaflowTaskGroup"]
