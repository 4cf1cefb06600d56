"""Reads a flow, as it stands inside Metaflow's own command line, into a :class:`FlowGraph`.

Runs in the process of ``python flow.py … create``, after Metaflow has resolved configs, run mutators and attached
``--with`` decorators. Imports Metaflow.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from itertools import chain
from typing import Any

from metaflow_orchestration.compile.url_credentials import without_credentials
from metaflow_orchestration.exceptions import FlowCompileError
from metaflow_orchestration.graph.model import (
    Decorator,
    FlowGraph,
    Project,
    Retry,
    Schedule,
    Step,
    StepKind,
    SwitchCase,
)

from .flow_decorators import read_exit_hooks, read_sensors, read_trigger_reset, read_triggers
from .parameters import read_parameters

_KINDS = {
    "start": StepKind.LINEAR,
    "linear": StepKind.LINEAR,
    "split": StepKind.SPLIT,
    "foreach": StepKind.FOREACH,
    "split-switch": StepKind.SWITCH,
    "join": StepKind.JOIN,
    "end": StepKind.END,
}


def read_graph(flow: Any, graph: Any) -> FlowGraph:
    """Read a flow.

    :param flow: the ``FlowSpec`` instance of Metaflow's command line.
    :param graph: its ``metaflow.graph.FlowGraph``, read after the last decorator was attached.
    :raises FlowCompileError: if the flow has a node that Metaflow did not type.
    """
    parameters = read_parameters(flow)
    return FlowGraph(
        name=flow.name,
        start=graph.start_step,
        end=graph.end_step,
        steps=tuple(_read_step(graph.name, flow, graph, node) for node in _topological(graph)),
        parameters=parameters,
        schedule=_read_schedule(flow),
        project=_read_project(),
        triggers=read_triggers(flow, parameters),
        trigger_reset=read_trigger_reset(flow),
        exit_hooks=read_exit_hooks(flow),
        sensors=read_sensors(flow),
        decorators=tuple(_read_decorator(deco) for decos in flow._flow_decorators.values() for deco in decos),
        # Python 3.13 removes the indentation itself, and Metaflow then leaves blank lines at the end.
        doc=cleandoc(graph.doc or ""),
    )


def _topological(graph: Any) -> list[Any]:
    """Order the nodes parents first, and by line where that leaves a choice (Metaflow's order is by name)."""
    waiting = {node.name: {p for p in node.in_funcs if p != node.name} for node in graph}
    ordered: list[Any] = []
    while waiting:
        ready = [graph[name] for name, parents in waiting.items() if not parents]
        if not ready:
            raise FlowCompileError("its steps form a cycle.", flow=graph.name)
        node = min(ready, key=lambda n: (n.func_lineno, n.name))
        ordered.append(node)
        del waiting[node.name]
        for parents in waiting.values():
            parents.discard(node.name)
    return ordered


def _read_step(flow_name: str, flow: Any, graph: Any, node: Any) -> Step:
    if node.type not in _KINDS:
        raise FlowCompileError(f"has the unknown type {node.type!r}.", flow=flow_name, step=node.name)
    kind = StepKind.PARALLEL if node.parallel_foreach else _KINDS[node.type]
    successors = tuple(dict.fromkeys(name for name in node.out_funcs if name != node.name))
    return Step(
        name=node.name,
        kind=kind,
        next_steps=successors,
        parents=_ordered_parents(graph, node),
        splits=tuple(node.split_parents),
        foreach_path=_foreach_path(graph, node),
        closes=node.split_parents[-1] if kind is StepKind.JOIN else None,
        closed_by=node.matching_join,
        foreach_artifact=node.foreach_param if kind is StepKind.FOREACH else None,
        condition=node.condition,
        cases=tuple(SwitchCase(value=str(key), step=to) for key, to in node.switch_cases.items()),
        recursive=node.name in node.out_funcs,
        gang=bool(node.parallel_step),
        retry=_read_retry(node),
        timeout_seconds=_read_timeout(node),
        environment=_read_environment(node),
        with_specs=_with_specs(flow, node),
        decorators=tuple(_read_decorator(deco) for deco in node.decorators if deco.name != "orchestrator_internal"),
        doc=cleandoc(node.doc or ""),
        line=node.func_lineno,
    )


def _ordered_parents(graph: Any, node: Any) -> tuple[str, ...]:
    """Order the parents of a join by the branch of its split that they end, others by name."""
    parents = [name for name in sorted(node.in_funcs) if name != node.name]
    if node.type != "join" or not node.split_parents:
        return tuple(parents)
    depth = len(node.split_parents) - 1
    branches = list(graph[node.split_parents[-1]].out_funcs)

    def branch(name: str) -> int:
        path = graph[name].split_branches
        return branches.index(path[depth]) if len(path) > depth and path[depth] in branches else 0

    return tuple(sorted(parents, key=lambda name: (branch(name), name)))


def _foreach_path(graph: Any, node: Any) -> tuple[str, ...]:
    around = node.split_parents[:-1] if node.type == "join" else node.split_parents
    return tuple(name for name in around if graph[name].type == "foreach" and not graph[name].parallel_foreach)


def _read_retry(node: Any) -> Retry:
    user = error = 0
    delay: float | None = None
    for deco in node.decorators:
        user_retries, error_retries = deco.step_task_retry_count()
        if user_retries is None or error_retries is None:  # the decorator forbids retries
            return Retry(user=0, error=0, delay_seconds=None)
        user, error = max(user, int(user_retries)), max(error, int(error_retries))
        if deco.name == "retry":
            delay = float(deco.attributes["minutes_between_retries"]) * 60
    return Retry(user=user, error=error, delay_seconds=delay)


def _read_timeout(node: Any) -> int | None:
    for deco in node.decorators:
        if deco.name == "timeout":
            return int(deco.secs)
    return None


def _read_environment(node: Any) -> tuple[tuple[str, str], ...]:
    variables: dict[str, str] = {}
    for deco in node.decorators:
        if deco.name == "environment":
            variables.update({str(name): str(value) for name, value in deco.attributes["vars"].items()})
    return tuple(sorted(variables.items()))


def _with_specs(flow: Any, node: Any) -> tuple[str, ...]:
    """Return the specs of decorators that are not in the source, as Metaflow's local runtime forwards them."""
    function = getattr(flow, node.name)
    return tuple(
        deco.make_decorator_spec()
        for deco in chain(node.decorators, function.wrappers, function.config_decorators)
        if not deco.statically_defined and deco.inserted_by is None
    )


def _read_decorator(deco: Any) -> Decorator:
    attributes = json_attributes(deco)
    if deco.name == "environment":
        # The values stand in the step, once: they may be secrets.
        attributes = {"vars": sorted(attributes.get("vars") or {})}
    return Decorator(name=str(deco.name), attributes=attributes)


def json_attributes(deco: Any) -> dict[str, Any]:
    """Return the attributes of a decorator, reduced to JSON types.

    :param deco: a decorator of Metaflow.
    """
    attributes = getattr(deco, "attributes", None) or {}
    return {str(k): _json(v) for k, v in sorted(attributes.items())}


def _json(value: Any) -> Any:
    """Reduce an attribute to JSON; of what JSON cannot hold, only the type is kept."""
    try:
        return json.loads(without_credentials(json.dumps(value, sort_keys=True)))
    except (TypeError, ValueError):
        return f"<{type(value).__name__}>"


def _read_schedule(flow: Any) -> Schedule | None:
    decorators = flow._flow_decorators.get("schedule")
    if not decorators or not decorators[0].schedule:
        return None
    return Schedule(cron=decorators[0].schedule, timezone=decorators[0].timezone)


def _read_project() -> Project | None:
    from metaflow import current

    if not current.get("project_name"):
        return None
    return Project(
        name=current.project_name,
        branch=current.branch_name,
        production=bool(current.is_production),
        flow_name=current.project_flow_name,
    )
