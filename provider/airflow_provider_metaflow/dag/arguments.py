"""The arguments of the Airflow DAG of a flow: what the flow says, and what the user says over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow.formats import Arguments
from airflow_provider_metaflow.plan.record import record_line
from airflow_provider_metaflow.plan.rules import check_rules
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph

from .documentation import dag_documentation, filled_by_events
from .location import resolved

if TYPE_CHECKING:
    from airflow.sdk import Param
    from airflow.sdk.definitions.asset import AssetWatcher

Watchers = Mapping[str, "Sequence[AssetWatcher]"]


def make_arguments(
    manifest: Manifest,
    dag_id: str,
    *,
    max_workers: int | None,
    watchers: Watchers,
    given: Mapping[str, Any],
    fixed: Mapping[str, Any],
    templates: Mapping[str, Any],
) -> Arguments:
    """Return all keyword arguments of a DAG.

    :param manifest: the compiled flow.
    :param dag_id: the DAG.
    :param max_workers: how many tasks may run at a time.
    :param watchers: Airflow's watchers by event.
    :param given: arguments of the user, which win; our tag and owner stay beside those given.
    :param fixed: values of parameters, in place of the flow's defaults.
    :param templates: values of parameters that the start step renders.
    :raises InvalidOptionError: if a watcher is for an event that the flow does not wait for, ``params`` holds a
        template, which Airflow would not render, or an argument of ``default_args`` could not take effect.
    """
    graph = manifest.graph
    _check_watchers(graph, watchers)
    ours = _of_flow(manifest, max_workers)
    arguments = {**ours, "schedule": _schedule(graph, watchers, dag_id), **given}
    arguments["tags"] = sorted({*ours["tags"], *(given.get("tags") or ())})
    default_args = given.get("default_args") or {}
    check_default_args(graph, default_args, "MetaflowDag")
    arguments["default_args"] = {**ours["default_args"], **default_args}
    _add_notifiers(arguments, manifest)
    arguments["doc_md"] = _with_record(arguments["doc_md"], manifest)
    params = dict(given.get("params") or {})
    _check_params(graph, {**params, **(default_args.get("params") or {})})
    arguments["params"] = {**_params(graph, fixed, templates), **params}
    return arguments


def with_doc_file(given: Mapping[str, Any], caller: str) -> Arguments:
    """Return arguments of a DAG with the text of ``doc_md``'s file, which Airflow reads if the name ends with ``.md``.

    :param given: arguments of the user.
    :param caller: the file that called us.
    """
    name = given.get("doc_md")
    if not isinstance(name, str) or not name.endswith(".md") or "\n" in name:
        return dict(given)
    file = resolved(name, caller)
    return {**given, "doc_md": file.read_text() if file.is_file() else name}


def check_default_args(graph: FlowGraph, default_args: Mapping[str, Any], owner: str) -> None:
    """Check ``default_args`` that are for the tasks of one flow; most DAG files have none, and import nothing for it.

    :param graph: the flow.
    :param default_args: what was given.
    :param owner: name of the class that they were given to.
    :raises InvalidOptionError: if one could not take effect.
    """
    if default_args:
        from airflow_provider_metaflow.plan import translator

        translator.check_default_args(graph, default_args, owner)


def _check_params(graph: FlowGraph, params: Mapping[str, Any]) -> None:
    from airflow_provider_metaflow.plan.parameters import is_template

    for parameter in graph.parameters:
        value = params.get(parameter.name)
        if is_template(getattr(value, "value", value)):
            raise InvalidOptionError(
                f"`params` has a template for parameter {parameter.name!r}, and Airflow renders none there.",
                flow=graph.name,
                hint=f"Give it as `parameters={{{parameter.name!r}: …}}`, which is rendered for each run.",
            )


def _of_flow(manifest: Manifest, max_workers: int | None) -> Arguments:
    graph, deployment = manifest.graph, manifest.deployment
    # A manifest may be older than the rules of the release that reads it.
    check_rules(manifest)
    arguments: Arguments = {
        "catchup": False,
        "tags": sorted({"metaflow", *deployment.tags}),
        "description": first_line(graph.doc) or f"Metaflow flow {graph.name}",
        "doc_md": dag_documentation(manifest),
        "default_args": {"owner": deployment.owner},
    }
    workers = max_workers or deployment.max_workers
    if workers:
        arguments["max_active_tasks"] = workers
    if deployment.workflow_timeout:
        arguments["dagrun_timeout"] = timedelta(seconds=deployment.workflow_timeout)
    if deployment.is_paused_upon_creation is not None:
        arguments["is_paused_upon_creation"] = deployment.is_paused_upon_creation
    return arguments


def _schedule(graph: FlowGraph, watchers: Watchers, dag_id: str) -> Any:
    """Return what starts runs: times, events, both, or nothing."""
    times: Any = None
    if graph.schedule is not None:
        from airflow.sdk import CronTriggerTimetable

        from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

        times = CronTriggerTimetable(
            airflow_cron(graph.schedule, graph.name), timezone=airflow_timezone(graph.schedule, graph.name)
        )
    if not graph.triggers:
        return times
    from .emit import event_condition

    events = event_condition(graph.triggers, watchers, dag_id)
    if times is None:
        return events
    from airflow_provider_metaflow._compat import AssetOrTimeSchedule

    return AssetOrTimeSchedule(timetable=times, assets=events)


def _check_watchers(graph: FlowGraph, watchers: Watchers) -> None:
    known = [trigger.event for trigger in graph.triggers]
    for event in watchers:
        if event not in known:
            raise InvalidOptionError(
                f"event_watchers names {event!r}, which the flow does not wait for.",
                flow=graph.name,
                hint=f"Its events are: {', '.join(known) or 'none; add @trigger to the flow'}.",
            )


def _params(graph: FlowGraph, fixed: Mapping[str, Any], templates: Mapping[str, Any]) -> dict[str, Param]:
    if not graph.parameters:
        return {}
    from airflow.sdk import Param
    from msgspec.structs import replace

    from airflow_provider_metaflow.plan.parameters import UNSET, default_value, exact_value, json_schema

    params = {}
    for parameter in graph.parameters:
        said = [parameter.help] if parameter.help else []
        if graph.triggers and parameter.required:
            # An event brings the value; Airflow would check its absence before. The start step does.
            parameter = replace(parameter, required=False, default=None)  # noqa: PLW2901
            events = filled_by_events(graph, parameter.name)
            if parameter.name not in (*fixed, *templates):
                said.append(f"Required, unless filled by the {events}." if events else "Required.")
        if parameter.name in templates:
            # Null stands for the template: a form hands out every value, and one that differs from null was chosen.
            parameter = replace(parameter, required=False, default=None)  # noqa: PLW2901
        default = fixed.get(parameter.name, UNSET)
        default = default_value(parameter) if default is UNSET else exact_value(default)
        arguments: Arguments = json_schema(parameter, default)
        if parameter.name in templates:
            said.append(f"Default: {templates[parameter.name]}")
        if said:
            arguments["description"] = " ".join(said)
        if default is not UNSET:
            arguments["default"] = default
        params[parameter.name] = Param(**arguments)
    return params


def _add_notifiers(arguments: Arguments, manifest: Manifest) -> None:
    """Add our notifiers to the callbacks that the user has given."""
    wanted = manifest.deployment.notifications
    if wanted is None:
        return
    from airflow_provider_metaflow.notifications.run import MetaflowRunNotifier

    for name, on_success in (("on_failure_callback", False), ("on_success_callback", True)):
        if wanted.on_success if on_success else wanted.on_error:
            given = arguments.get(name)
            others = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
            notifier = MetaflowRunNotifier(
                flow=manifest.graph.name, on_success=on_success, endpoints=wanted, start=manifest.graph.start
            )
            arguments[name] = [*others, notifier]


def _with_record(text: str | None, manifest: Manifest) -> str:
    return "\n\n".join(part for part in (text, record_line(manifest)) if part)


def first_line(text: str) -> str:
    """Return the first line of a text, e.g. a docstring.

    :param text: the text.
    """
    return text.strip().splitlines()[0] if text.strip() else ""
