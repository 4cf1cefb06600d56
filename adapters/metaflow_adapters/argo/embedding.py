"""A flow as a part of a user's own Hera workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from hera.workflows import Parameter, Task, Workflow
from hera.workflows._context import _context

from metaflow_adapters.argo.objects import spec
from metaflow_adapters.argo.objects.containers import shared_container
from metaflow_adapters.argo.objects.parameters import default_of
from metaflow_adapters.argo.objects.references import run_prefix
from metaflow_adapters.argo.objects.spec import Spec, live
from metaflow_adapters.argo.objects.templates import emit_templates
from metaflow_adapters.argo.objects.values import harmless
from metaflow_adapters.argo.plan.flow import PATHSPEC, PLACE, plan_flow
from metaflow_adapters.manifests import compile_manifest_of
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph

from .compile import containers_of, gangs_of
from .options import ArgoOptions, CompileArguments

GIVEN = "metaflow-parameters"
"""Parameter by which the flow's own parameters come to its start step, encoded."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedFlow:
    """A flow's templates, for a workflow of a user's own. They are live: change them as you like.

    :param name: what the names of its templates start with; also the name of the template that is the whole flow.
    :param templates: all of its templates.
    :param manifest: the compiled flow.
    """

    name: str
    templates: tuple[Any, ...]
    manifest: Manifest

    def task(
        self,
        name: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        run: str | None = None,
        **task: Any,
    ) -> Task:
        """Return a task that runs the flow, for a ``DAG`` of the user's workflow.

        :param name: name of the task; that of the flow's templates, if left out.
        :param parameters: values of the flow's parameters: texts, or outputs of other tasks.
        :param run: what distinguishes this run from others of the same workflow, e.g. ``"{{item}}"`` in a loop.
        :param task: further arguments of Hera's ``Task``.
        :raises InvalidOptionError: if a parameter is not the flow's, or `run` cannot be a part of a run id.
        """
        known = {one.name for one in self.manifest.graph.parameters}
        arguments = []
        for key, value in (parameters or {}).items():
            if key not in known:
                raise InvalidOptionError(
                    f"there is no parameter {key!r}.",
                    flow=self.manifest.graph.name,
                    hint=f"Parameters are: {', '.join(sorted(known)) or 'none'}.",
                )
            arguments.append(value.with_name(key) if isinstance(value, Parameter) else Parameter(name=key, value=value))
        if run is not None:
            arguments.append(Parameter(name=PLACE, value=f"{run_prefix(run, self.manifest.graph.name)}@"))
        # The template itself, so that Hera knows of its outputs: `task.get_parameter("pathspec")`.
        return Task(name=name or self.name, template=self.templates[0], arguments=arguments or None, **task)


def embed_flow(
    flow: str | Path | Manifest,
    name: str,
    *,
    top_level: Sequence[str] = (),
    create: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
    cache: str | Path | None = None,
    options: ArgoOptions | None = None,
) -> EmbeddedFlow:
    """Return a flow's templates for a workflow of a user's own; it may hold several flows, and one several times.

    The output parameter ``pathspec`` of its task is the pathspec of the run, e.g. ``Flow/argo-mine-x1-train``.

    ```python
    from hera.workflows import DAG, Workflow
    from metaflow_adapters.argo import embed_flow

    training = embed_flow("flows/training.py", "train")
    with Workflow(generate_name="nightly-", entrypoint="main") as workflow:
        workflow.templates.extend(training.templates)
        with DAG(name="main"):
            training.task(parameters={"alpha": 0.5})
    ```

    New in version 0.1.0.

    :param flow: see :func:`~.compile.compile_flow`.
    :param name: what the names of its templates start with.
    :param top_level: see :func:`~.compile.compile_flow`.
    :param create: see there.
    :param environment: see there.
    :param python: see there.
    :param cache: see there.
    :param options: Argo's own options.
    """
    manifest = compile_manifest_of(
        flow, "argo", top_level=top_level, create=create, environment=environment, python=python, cache=cache
    )
    # No event starts a part of a workflow.
    replace = msgspec.structs.replace
    manifest = replace(manifest, graph=replace(manifest.graph, triggers=(), trigger_reset=None))
    templates = live(_templates(manifest, name, options or ArgoOptions()))
    return EmbeddedFlow(name=name, templates=tuple(templates), manifest=manifest)


def _templates(manifest: Manifest, name: str, options: ArgoOptions) -> list[Spec]:
    plan = plan_flow(manifest.graph, prefix=name)
    containers = containers_of(manifest, plan, options, f"{{{{inputs.parameters.{GIVEN}}}}}")
    shared = shared_container(manifest, resumable=False)
    templates = emit_templates(plan, containers, shared, gangs_of(shared, options.gang), place=f"{name}@")
    _pass_parameters(manifest.graph, templates)
    last = next(task.name for task in plan.dags[0].tasks if task.template == plan.container_of(manifest.graph.end))
    run = spec.model("ValueFrom", parameter=f"{{{{tasks.{last}.outputs.parameters.{PATHSPEC}}}}}")
    templates[0].outputs = [spec.Parameter(name=PATHSPEC, value_from=run)]
    return templates


def _pass_parameters(graph: FlowGraph, templates: list[Spec]) -> None:
    """Give the flow's parameters to its template, and from there to the start step."""
    entry = templates[0]
    if not graph.parameters:
        return
    _add_inputs(entry, _inputs(graph))
    start = next(task for task in entry.tasks if not task.depends)
    encoded = spec.Parameter(name=GIVEN, value="{{=sprig.b64enc(toJson(inputs.parameters))}}")
    start.arguments = [*(start.arguments or ()), encoded]
    container = next(one for one in templates if one.name == start.template)
    _add_inputs(container, [spec.Parameter(name=GIVEN)])


def _add_inputs(template: Spec, inputs: list[Spec]) -> None:
    template.inputs = [*(template.inputs or ()), *inputs]


def _inputs(graph: FlowGraph) -> list[Spec]:
    return [
        spec.Parameter(name=one.name, description=harmless(one.help) or None)
        if one.required and one.default is None
        else spec.Parameter(name=one.name, value=default_of(one), description=harmless(one.help) or None)
        for one in graph.parameters
    ]


def flow_task(
    flow: str | Path | Manifest,
    name: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    run: str | None = None,
    options: ArgoOptions | None = None,
    compile_options: CompileArguments | None = None,
    **task: Any,
) -> Task:
    """Add a flow to the workflow that is open, and return the task of the open ``DAG`` that runs it.

    ```python
    from hera.workflows import DAG, Workflow
    from metaflow_adapters.argo import flow_task

    with Workflow(generate_name="nightly-", entrypoint="main") as workflow, DAG(name="main"):
        flow_task("flows/training.py", "train", parameters={"alpha": 0.5})
    ```

    New in version 0.1.0.

    :param flow: see :func:`~.compile.compile_flow`.
    :param name: name of the task, and what the names of the flow's templates start with.
    :param parameters: see :meth:`EmbeddedFlow.task`.
    :param run: see :meth:`EmbeddedFlow.task`.
    :param options: Argo's own options.
    :param compile_options: further arguments of :func:`~.compile.compile_flow`.
    :param task: further arguments of Hera's ``Task``.
    :raises InvalidOptionError: outside of a workflow.
    """
    pieces = _context.pieces or []
    if not pieces or not isinstance(pieces[0], Workflow):
        raise InvalidOptionError("`flow_task` stands outside of a `with Workflow(…)`.", hint="Or use `embed_flow`.")
    embedded = embed_flow(flow, name, options=options, **(compile_options or {}))
    pieces[0].templates.extend(embedded.templates)
    return embedded.task(parameters=parameters, run=run, **task)
