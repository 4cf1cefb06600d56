"""What the page shows, made of what Airflow and Metaflow know; free of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import quote, urlsplit

from airflow_provider_metaflow.deploy.record import ShownRecord
from airflow_provider_metaflow.formats import ParamValues

from .airflow_run import StepTimes

_STATES = (
    ("failed", "failed"), ("running", "running"), ("up_for_retry", "waiting for a retry"), ("deferred", "running"),
    ("queued", "queued"), ("scheduled", "queued"), ("restarting", "running"), ("up_for_reschedule", "running"),
    ("upstream_failed", "not run: a step before failed"), ("success", "successful"), ("skipped", "skipped"),
)  # fmt: skip
"""States of task instances in the order of what matters most, and how a bar is labelled."""

_DONE = ("success", "skipped", "removed")
_MARKS = {"failed": "failed", "upstream_failed": "failed", "success": "done"}


class Bar(TypedDict):
    """A bar of the timeline; ``left`` and ``width`` are in percent of its width."""

    step: str
    state: str
    mark: str
    detail: str
    left: float
    width: float
    duration: str


class ShownParameter(TypedDict):
    """A parameter of a run, with where its value comes from."""

    name: str
    value: str | None
    source: str


def timeline(times: Sequence[StepTimes], now: datetime) -> list[Bar]:
    """Return the bars of the timeline, in percent of its width; steps that have not begun have none.

    :param times: when the steps ran.
    :param now: the end of what still runs.
    """
    begun = [one for one in times if one.start is not None]
    if not begun:
        return []
    first = min(one.start for one in begun if one.start)
    last = max(_end(one, now) for one in begun)
    whole = max((last - first).total_seconds(), 0.001)
    bars = []
    for one in times:
        state = next((name for name, _ in _STATES if one.states.get(name)), "")
        bar: Bar = {
            "step": one.step,
            "state": dict(_STATES).get(state, "not started"),
            "mark": _MARKS.get(state, ""),
            "detail": _detail(one),
            "left": 0.0,
            "width": 0.0,
            "duration": "",
        }
        if one.start is not None:
            seconds = max((_end(one, now) - one.start).total_seconds(), 0)
            bar["left"] = round(100 * (one.start - first).total_seconds() / whole, 2)
            bar["width"] = round(min(100 * seconds / whole, 100 - bar["left"]), 2)
            bar["duration"] = duration(seconds)
        bars.append(bar)
    return bars


def _end(one: StepTimes, now: datetime) -> datetime:
    assert one.start is not None  # noqa: S101  (of those that have begun)
    return max(one.end or now, one.start)


def _detail(one: StepTimes) -> str:
    total, done = sum(one.states.values()), sum(one.states.get(name, 0) for name in _DONE)
    failed = one.states.get("failed", 0)
    parts = [f"{done} of {total} tasks done"] if total > 1 else []
    if failed and total > 1:
        parts.append(f"{failed} failed")
    if one.tries > 1:
        parts.append(f"try {one.tries}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration for people.

    >>> duration(3.25), duration(75), duration(7260)
    ('3.2 s', '1 min 15 s', '2 h 1 min')

    :param seconds: the duration.
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def parameters(
    values: Mapping[str, str | None],
    flow: ShownRecord,
    conf: Mapping[str, Any],
    defaults: Mapping[str, Any],
    events: set[str],
) -> list[ShownParameter]:
    """Return the parameters of a run with where their values come from.

    :param values: their values as texts.
    :param flow: the flow.
    :param conf: what the DAG run was triggered with.
    :param defaults: defaults of the DAG's parameters.
    :param events: events that the run was started by.
    """
    return [
        {"name": name, "value": value, "source": _source(name, flow, conf, defaults, events)}
        for name, value in values.items()
    ]


def _source(
    name: str, flow: ShownRecord, conf: Mapping[str, Any], defaults: Mapping[str, Any], events: set[str]
) -> str:
    for event, filled in flow.events:
        if event in events and name in filled and not flow.prefix:
            return f"event {event}"
    # A form hands out every value, and one that is the default was not chosen.
    if not flow.prefix and name in conf and conf[name] != defaults.get(name):
        return "given for this run"
    return "DAG file" if name in flow.given else "default"


def param_defaults(data: Any) -> ParamValues:
    """Return the defaults of a DAG's parameters.

    :param data: Airflow's JSON form of the DAG.
    """
    found = ((data or {}).get("dag") or {}).get("params") or []
    pairs = found.items() if isinstance(found, dict) else found
    return {str(name): one.get("default") for name, one in pairs if isinstance(one, dict)}


def log_link(base: str, dag_id: str, run_id: str, task: str, map_index: int = -1) -> str:
    """Return Airflow's page with the log of a task instance, or of all instances of a mapped task.

    :param base: path of Airflow's web interface.
    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    :param task: Airflow task id.
    :param map_index: the task instance.
    """
    dag, run, name = (quote(part, safe="") for part in (dag_id, run_id, task))
    link = f"{base}/dags/{dag}/runs/{run}/tasks/{name}"
    return f"{link}/mapped/{map_index}" if map_index >= 0 else link


def web_address(text: str) -> str:
    """Return an address of the web as it is, and nothing for another one, e.g. a script.

    :param text: the address.
    """
    return text if urlsplit(text).scheme in ("http", "https") else ""


def snippet(pathspec: str) -> str:
    """Return how to open a run or a task in a notebook.

    :param pathspec: ``Flow/run`` or ``Flow/run/step/task``.
    """
    kind = "Task" if pathspec.count("/") == 3 else "Run"
    return f'from metaflow import {kind}, namespace\n\nnamespace(None)\n{kind.lower()} = {kind}("{pathspec}")'


def cards_address(base: str, dag_id: str, run_id: str, record: ShownRecord, index: int) -> tuple[str, str]:
    """Return what stands before and after step, task and hash in the address of a card.

    :param base: path that Airflow is served under.
    :param dag_id: the DAG.
    :param run_id: Airflow's id of the run.
    :param record: the flow.
    :param index: map index of the run's task group, where the flow stands in a mapped one.
    """
    query = {"flow": record.prefix, "map_index": str(index) if record.is_mapped else ""}
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
    address = f"{base}/metaflow/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/cards"
    return address, f"?{text}" if text else ""
