"""Why a pod failed, in one sentence, from what the Kubernetes API says of it. Plain data in, text out."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from metaflow_orchestration.containers.pods import CONTAINER
from metaflow_orchestration.documents.task import OutcomeDocument

UNKNOWN = "its pod failed, and Kubernetes does not say why"


def failure_reason(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return why a pod failed or did not start.

    :param pod: the pod, in the words of the Kubernetes API.
    :param events: its events.
    """
    status = pod.get("status") or {}
    return (
        _of_container(pod, status)
        or _of_pod(status)
        or _of_waiting(status, events)
        or _of_conditions(status)
        or UNKNOWN
    )


def api_error(error: Exception) -> str:
    """Return what the Kubernetes API has answered, in one line.

    :param error: an error of its client, or any other.
    """
    try:
        return str(json.loads(getattr(error, "body", None) or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def exit_code(pod: Mapping[str, Any]) -> int | None:
    """Return the exit code of the container, None while it has none.

    :param pod: the pod.
    """
    code: int | None = _terminated(pod.get("status") or {}).get("exitCode")
    return code


def outcome_message(pod: Mapping[str, Any]) -> OutcomeDocument | None:
    """Return what the container has written as its last message, None if that is no document of ours.

    It is the outcome of the task, or with ``last_lines`` how it failed.

    :param pod: the pod.
    """
    try:
        document = json.loads(_terminated(pod.get("status") or {}).get("message") or "")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [one for one in status.get("containerStatuses") or () if one.get("name") == CONTAINER]
    return found[0] if found else {}


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return (_container(status).get("state") or {}).get("terminated") or {}


def _of_container(pod: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    ended = _terminated(status)
    code = ended.get("exitCode")
    if not code:
        return None
    if ended.get("reason") == "OOMKilled":
        return f"it ran out of memory (OOMKilled); its limit is {_memory_limit(pod)}"
    if status.get("reason") in ("DeadlineExceeded", "Evicted", "NodeLost", "Preempting"):
        return None
    text = f"it exited with {code}"
    if code > 128 and code - 128 in set(signal.Signals):
        text = f"it was killed by {signal.Signals(code - 128).name}"
    document = outcome_message(pod)
    lines = document.get("last_lines") if document else str(ended.get("message") or "").strip().splitlines()
    return f"{text}: {lines[-1]}" if lines else text


def _memory_limit(pod: Mapping[str, Any]) -> str:
    containers = (pod.get("spec") or {}).get("containers") or ()
    for container in containers:
        if container.get("name") == CONTAINER:
            limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
            if limit:
                return str(limit)
    return "that of its node"


def _of_pod(status: Mapping[str, Any]) -> str | None:
    reason = status.get("reason")
    if not reason:
        return None
    words = {
        "DeadlineExceeded": "it ran longer than its time limit",
        "Evicted": "Kubernetes evicted its pod",
        "NodeLost": "the node that it ran on was lost",
    }
    message = status.get("message")
    text = words.get(reason, f"its pod failed ({reason})")
    return f"{text}: {message}" if message else text


def _of_waiting(status: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str | None:
    waiting = (_container(status).get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason")
    if not reason or reason in ("ContainerCreating", "PodInitializing"):
        warnings = [one for one in events if one.get("type") == "Warning" and one.get("reason") != "FailedScheduling"]
        return f"its pod did not start: {warnings[-1].get('message')}" if warnings and reason else None
    what = "its image cannot be pulled" if "Image" in reason else "its container does not start"
    return f"{what} ({reason}): {waiting.get('message') or 'Kubernetes says no more'}"


def _of_conditions(status: Mapping[str, Any]) -> str | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node can take its pod ({condition.get('reason')}): {condition.get('message')}"
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"its pod was disrupted ({condition.get('reason')}): {condition.get('message')}"
    return None
