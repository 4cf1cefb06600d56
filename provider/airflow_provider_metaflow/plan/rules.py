"""What Airflow refuses when it imports a DAG.

``airflow create``, ``check`` and the DAG file look at the same rules, so that what deploys imports.
"""

from __future__ import annotations

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.naming import check_name, emitted_events, end_event
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

from .events import asset_name

MAX_TAG = 100
"""Longest tag of a DAG (``airflow.models.dag.TAG_MAX_LEN``); Metaflow accepts 500 characters."""

MAX_ID = 250
"""Longest id of a DAG or task (``airflow.sdk.definitions._internal.node.KEY_REGEX`` and ``validate_key``)."""

MAX_ASSET = 1500
"""Longest name of an asset (``airflow.sdk.definitions.asset``)."""

_MOST_ESCAPED = 12
"""A character of an event is twelve of an asset's name at most: four bytes of UTF-8, each written as ``%XX``."""


def check_deployable(manifest: Manifest) -> None:
    """Check that the DAG file that ``airflow create`` writes will import.

    :param manifest: the compiled flow.
    :raises MetaflowProviderError: naming what Airflow refuses, or a platform cannot honour.
    """
    from metaflow_orchestration.containers.placement import place_step

    check_name(manifest.deployment.name, manifest.graph.name)
    check_rules(manifest)
    for step in manifest.graph.steps:
        place_step(manifest, step.name, None)


def check_rules(manifest: Manifest) -> None:
    """Check that Airflow accepts the tags, the schedule, the ids and the events of a flow.

    :param manifest: the compiled flow.
    :raises MetaflowProviderError: naming what it refuses.
    """
    graph = manifest.graph
    if graph.trigger_reset is not None:
        raise UnsupportedFeatureError(
            "its trigger has the option 'reset_at', for which Airflow's assets have no counterpart.",
            flow=graph.name,
            hint="Remove the option; events are kept until all that the flow waits for have come.",
        )
    long = next((tag for tag in manifest.deployment.tags if len(tag) > MAX_TAG), None)
    if long is not None:
        raise InvalidOptionError(
            f"its tag {long[:40]}… has {len(long)} characters; Airflow takes {MAX_TAG}.",
            flow=graph.name,
            hint="Give a shorter --tag.",
        )
    if graph.schedule is not None:
        airflow_cron(graph.schedule, graph.name)
        airflow_timezone(graph.schedule, graph.name)
    for hook in graph.exit_hooks:
        # `plan.py` makes a task id of it.
        if len(hook.function) > MAX_ID - len("on-success--99"):
            raise InvalidOptionError(
                f"its exit hook {hook.function[:40]}… has {len(hook.function)} characters; ids of Airflow have "
                f"{MAX_ID} at most.",
                flow=graph.name,
                hint="Give the function a shorter name.",
            )
    _check_events(manifest)


def _check_events(manifest: Manifest) -> None:
    graph, deployment = manifest.graph, manifest.deployment
    events = [trigger.event for trigger in graph.triggers]
    if deployment.emit_events:
        emitted = graph.steps if deployment.emit_step_events else ()
        events += [end_event(graph), *(event for step in emitted for event in emitted_events(graph, step))]
    for event in events:
        # Most names need no look at each of their characters.
        if len(event) * _MOST_ESCAPED > MAX_ASSET // 2 and len(asset_name(event)) > MAX_ASSET:
            raise InvalidOptionError(
                f"the event {event[:40]}… makes the name of an asset of {len(asset_name(event)):,} characters; Airflow "
                f"takes {MAX_ASSET:,}.",
                flow=graph.name,
                hint="Give the event a shorter name.",
            )
