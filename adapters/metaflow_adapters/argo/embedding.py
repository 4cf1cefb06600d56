"""A flow as a part of a user's own Hera workflow."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from hera.workflows import DAG, Parameter, Task, Workflow
from hera.workflows._context import _context

from metaflow_adapters.manifests import compile_manifest_of
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph

from .compile import ArgoOptions, containers_of, gangs_of
from .containers import shared_container
from .emit import emit_templates
from .parameters import NULL
from .plan import PLACE, plan_flow
from .references import run_prefix

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
        :param run: what tells this run of the flow from others of the same workflow, e.g. ``"{{item}}"`` in a loop.
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
        return Task(name=name or self.name, template=self.name, arguments=arguments or None, **task)


def embed_flow(
    flow: str | Path | Manifest, name: str, *, options: ArgoOptions | None = None, **compile_options: Any
) -> EmbeddedFlow:
    """Return a flow's templates for a workflow of a user's own; it may hold several flows, and one several times.

    :param flow: see :func:`~.compile.compile_flow`.
    :param name: what the names of its templates start with.
    :param options: Argo's own options.
    :param compile_options: further arguments of :func:`~.compile.compile_flow`.
    """
    manifest = compile_manifest_of(flow, "argo", **compile_options)
    # No event starts a part of a workflow.
    replace = msgspec.structs.replace
    manifest = replace(manifest, graph=replace(manifest.graph, triggers=(), trigger_reset=None))
    # Hera adds whatever is made to the workflow that is open: not our tasks, please.
    templates = contextvars.Context().run(_templates, manifest, name, options or ArgoOptions())
    return EmbeddedFlow(name=name, templates=tuple(templates), manifest=manifest)


def _templates(manifest: Manifest, name: str, options: ArgoOptions) -> list[Any]:
    plan = plan_flow(manifest.graph, prefix=name)
    containers = containers_of(manifest, plan, options, f"{{{{inputs.parameters.{GIVEN}}}}}")
    shared = shared_container(manifest, resumable=False)
    templates = emit_templates(plan, containers, shared, gangs_of(shared, options.gang), place=f"{name}@")
    _pass_parameters(manifest.graph, templates)
    return templates


def _pass_parameters(graph: FlowGraph, templates: list[Any]) -> None:
    """Give the flow's parameters to its template, and from there to the start step."""
    entry: DAG = templates[0]
    if not graph.parameters:
        return
    _add_inputs(entry, _inputs(graph))
    start = next(task for task in entry.tasks if isinstance(task, Task) and not task.depends)
    encoded = Parameter(name=GIVEN, value="{{=sprig.b64enc(toJson(inputs.parameters))}}")
    start.arguments = [*_listed(start.arguments), encoded]
    container = next(one for one in templates if one.name == start.template)
    _add_inputs(container, [Parameter(name=GIVEN)])


def _listed(given: Any) -> list[Any]:
    """Return what our templates hold: a list or nothing, of all that Hera would take."""
    return list(given or [])


def _add_inputs(template: Any, inputs: list[Parameter]) -> None:
    template.inputs = [*_listed(template.inputs), *inputs]


def _inputs(graph: FlowGraph) -> list[Parameter]:
    return [
        Parameter(name=one.name, description=one.help or None)
        if one.required and one.default is None
        else Parameter(name=one.name, value=NULL if one.default is None else one.default, description=one.help or None)
        for one in graph.parameters
    ]


def flow_task(
    flow: str | Path | Manifest,
    name: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    run: str | None = None,
    options: ArgoOptions | None = None,
    compile_options: Mapping[str, Any] | None = None,
    **task: Any,
) -> Task:
    """Add a flow to the workflow that is open, and return the task of the open ``DAG`` that runs it.

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
