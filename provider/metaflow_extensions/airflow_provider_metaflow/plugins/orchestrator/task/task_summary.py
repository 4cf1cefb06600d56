"""The summary of a task: a small JSON document that the task writes beside its artifacts.

It holds the outcome, and names, types, sizes and small values of artifacts. Whoever asks how a task ended or what it
produced reads this document: workers, the API server and the triggerer never unpickle what a task has stored, since a
pickle runs the code of whoever wrote it with the rights of whoever reads it.

Standard library only; Metaflow's ``TaskDataStore`` is what comes in as ``task``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .task_documents import ArtifactFacts, ErrorFacts, Outcome, Summary

NAME = "orchestrator_summary.json"
"""Name among the metadata of a task's attempt; Metaflow puts the number of the attempt before it."""

VERSION = 1
"""Version of the summary; another one means other keys."""

MAX_VALUE_BYTES = 48 * 1024
"""Limit of the JSON text of one value."""

MAX_VALUES_BYTES = 64 * 1024
"""Limit of all values of a task together; smaller ones come first."""

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Larger documents are refused unread; the labels of a foreach with a million splits need about 20 MB."""

_MAX_LOADS = 50
"""How many artifacts that came from earlier steps are loaded for their values."""

_MAX_ERROR_TYPE = 200
_MAX_ERROR_MESSAGE = 2000
_PARENTS = 8
_MAX_DEPTH = 100
_INCLUDED_FILE = "<class 'metaflow.includefile.IncludedFile'>"


class SummaryError(ValueError):
    """A summary has not the form that tasks write; the message says where it is."""


def json_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values that JSON can hold and that are small, as JSON texts.

    :param values: artifacts by name, of any type.
    """
    # Looking for a limit in a large value costs time, too.
    patience = 16 * MAX_VALUES_BYTES
    texts: dict[str, str] = {}
    for name, value in values.items():
        left = _left(value, min(MAX_VALUE_BYTES, patience))
        patience -= MAX_VALUE_BYTES - max(left, 0) if left is not None else 0
        text = _text(value) if left is not None and left >= 0 else None
        if text is not None:
            texts[name] = text
    return texts


def _text(value: Any) -> str | None:
    try:
        text = json.dumps(value, allow_nan=False)
    except Exception:  # a type of the user's own may raise anything
        return None
    return text if len(text) <= MAX_VALUE_BYTES else None


def _left(value: Any, budget: int, depth: int = 0) -> int | None:
    """Return what a value leaves of a number of bytes, less than 0 if it is too large; None if JSON cannot hold it."""
    if isinstance(value, (list, tuple, dict)):
        return _left_of_parts(value, budget, depth) if depth < _MAX_DEPTH else None
    if isinstance(value, str):
        return budget - 2 - len(value)
    if isinstance(value, int):
        return budget - 1 - value.bit_length() // 4
    return budget - 4 if value is None or isinstance(value, float) else None


def _left_of_parts(value: Any, budget: int, depth: int) -> int | None:
    # Each part needs a comma at least, so a long container need not be walked through.
    left = budget - 2 - 2 * len(value)
    if left < 0:
        return left
    for part in [*value.keys(), *value.values()] if isinstance(value, dict) else value:
        rest = _left(part, left, depth + 1)
        if rest is None or rest < 0:
            return rest
        left = rest
    return left


def make_summary(
    task: Any,
    *,
    outcome: Outcome | None,
    texts: Mapping[str, str],
    inputs: Iterable[Any],
    parameters: Iterable[str] | None,
    error: BaseException | None = None,
) -> Summary:
    """Return the summary of a finished task.

    :param task: the task's datastore, with all artifacts saved.
    :param outcome: its outcome document; None if it failed.
    :param texts: what :func:`json_texts` returned for the artifacts that the step has set or read.
    :param inputs: datastores of the tasks before it.
    :param parameters: names of the run's parameters; of the start step only.
    :param error: what ended a task that failed.
    """
    stored = task.ds_metadata
    keys, infos = stored["objects"], stored["info"]
    names = sorted(name for name in keys if not name.startswith("_") and name != "name")
    texts = {name: text for name, text in texts.items() if name in keys}
    missing = [name for name in names if name not in texts and _may_be_small(infos.get(name))]
    texts.update(_inherited(task, keys, missing, inputs))
    kept: dict[str, str] = {}
    left = MAX_VALUES_BYTES
    for name in sorted(texts, key=lambda one: (len(texts[one]), one)):
        left -= len(texts[name])
        if left < 0:
            break
        kept[name] = texts[name]
    artifacts: dict[str, ArtifactFacts] = {}
    for name in names:
        info = infos.get(name) or {}
        artifacts[name] = {"key": keys[name], "type": type_name(info.get("type")), "size": info.get("size")}
        if name in kept:
            artifacts[name]["value"] = json.loads(kept[name])
    summary: Summary = {"version": VERSION, "ok": outcome is not None, "outcome": outcome, "artifacts": artifacts}
    if outcome is None and error is not None:
        summary["error"] = describe_error(error)
    if parameters is not None:
        summary["parameters"] = sorted(parameters)
    return summary


def describe_error(error: BaseException) -> ErrorFacts:
    """Return type and message of an exception, so that people see why a task failed.

    :param error: the exception of the user's code.
    """
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else "%s.%s" % (kind.__module__, kind.__qualname__)
    try:
        message = str(error)
    except Exception:  # a type of the user's own may raise anything
        message = ""
    return {"type": name[:_MAX_ERROR_TYPE], "message": message[:_MAX_ERROR_MESSAGE]}


def _may_be_small(info: Mapping[str, Any] | None) -> bool:
    # A pickle is seldom twice as large as the JSON of the same value.
    return info is not None and 0 < info.get("size", 0) <= 2 * MAX_VALUE_BYTES and info.get("type") != _INCLUDED_FILE


def type_name(text: Any) -> str:
    """Return the name of a type as a summary has it.

    :param text: what Metaflow stores of it, e.g. ``<class 'int'>``.
    """
    return str(text).removeprefix("<class '").removesuffix("'>") if text else ""


def _inherited(task: Any, keys: Mapping[str, str], names: list[str], inputs: Iterable[Any]) -> dict[str, str]:
    """Return the texts of artifacts that were passed down, from the summaries before or else from the datastore."""
    found: dict[str, str] = {}
    left = list(names)
    for _, parent in zip(range(_PARENTS), inputs, strict=False):
        if not left:
            return found
        summary = load_summary(parent)
        # Whoever ran that task may have written anything.
        known = {one.get("key"): one for one in ((summary and summary.get("artifacts")) or {}).values()}
        for name in list(left):
            before = known.get(keys[name])
            if before is not None:
                left.remove(name)
                found.update(json_texts({name: before["value"]}) if "value" in before else {})
    # This process is the task itself, which could have read them all the same.
    for name, value in task.load_artifacts(left[:_MAX_LOADS]) if left else ():
        found.update(json_texts({name: value}))
    return found


def save_summary(datastore: Any, run_id: str, step: str, task_id: str, attempt: int, summary: Summary) -> None:
    """Write a summary beside a task that is done.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id.
    :param step: the step.
    :param task_id: Metaflow task id.
    :param attempt: the attempt.
    :param summary: what :func:`make_summary` returned.
    """
    task = datastore.get_task_datastore(run_id, step, task_id, attempt=attempt, mode="w")
    task.save_metadata({NAME: summary})


def load_summary(task: Any) -> Summary | None:
    """Return the summary of a task, None if it has written none.

    :param task: datastore of a task that is done, in mode ``r``.
    :raises SummaryError: if what stands there is too large or no summary.
    """
    path = task._storage_impl.path_join(task._path, task.metadata_name_for_attempt(NAME, task.attempt))
    size = task._storage_impl.size_file(path)
    if size is None:
        return None
    if size > MAX_DOCUMENT_BYTES:
        raise SummaryError("%s is %d bytes large; the limit is %d." % (path, size, MAX_DOCUMENT_BYTES))
    try:
        summary = task.load_metadata([NAME])[NAME]
    except ValueError as error:
        raise SummaryError("%s is not JSON (%s)." % (path, error)) from None
    version = summary.get("version") if isinstance(summary, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise SummaryError(
            "%s is of version %d, and this release reads version %d. Deploy the flow again, with the release that "
            "wrote it or a later one." % (path, version, VERSION)
        )
    if version != VERSION:
        raise SummaryError("%s is no summary of version %d." % (path, VERSION))
    return cast("Summary", summary)


def outcome_of(summary: Mapping[str, object], task_id: str, attempt: int) -> Outcome | None:
    """Return the outcome document that a summary holds, None if the task failed.

    Only known fields of the right types are read: a task that runs elsewhere may have written anything.

    :param summary: what :func:`load_summary` returned.
    :param task_id: Metaflow task id.
    :param attempt: the attempt that wrote it.
    :raises SummaryError: if a field has another type.
    """
    given = summary.get("outcome")
    if summary.get("ok") is not True or given is None:
        return None
    outcome: dict[str, object] = {"task_id": task_id, "attempt": attempt}
    for name, check in _FIELDS.items():
        value = given.get(name) if isinstance(given, dict) else None
        if value is not None or name == "next":
            if not check(value):
                raise SummaryError("the summary of task %s has a wrong %s in its outcome." % (task_id, name))
            outcome[name] = value
    return cast("Outcome", outcome)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_FIELDS = {
    "next": _is_texts,
    "num_splits": _is_count,
    "num_parallel": _is_count,
    "values": _is_texts,
    "gang": _is_texts,
}
