"""Reads the record that a deployed DAG holds in its documentation; ``plan/record.py`` writes it."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

from airflow_provider_metaflow.plan.record import LINE, record_line
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.graph.model import EventTrigger, Parameter

_PATTERN = re.compile(f"^{re.escape(LINE).replace(re.escape('{}'), '([A-Za-z0-9+/=]+)')}$", re.MULTILINE)

_STEP = ("airflow_provider_metaflow.operators.step", "MetaflowStepOperator")


@built
class DeploymentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who deployed which flow.

    :param flow: name of the flow.
    :param owner: user who deployed it.
    :param deployment: name under which it was deployed.
    :param token_proof: proof of the production token, which gives the right to change the deployment.
    :param digest: SHA-256 of the manifest without its token, which distinguishes one deployment from the next.
    :param project: name of the ``@project``.
    :param branch: its branch, e.g. ``user.ann``, ``test.x``, ``prod``.
    :param parameters: parameters of the flow, without their defaults.
    :param steps: names of the steps in topological order.
    :param triggers: events that the flow waits for.
    :param metadata: type of the metadata provider.
    :param datastore: type of the datastore.
    :param datastore_root: its root.
    """

    flow: str
    owner: str
    digest: str
    deployment: str = ""
    token_proof: str = ""
    project: str | None = None
    branch: str | None = None
    parameters: tuple[Parameter, ...] = ()
    steps: tuple[str, ...] = ()
    triggers: tuple[EventTrigger, ...] = ()
    metadata: str = ""
    datastore: str = ""
    datastore_root: str = ""


@built
class ShownRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the page in Airflow's web interface knows of a flow.

    :param flow: name of the flow.
    :param owner: user who deployed it.
    :param project: name of the ``@project``.
    :param branch: its branch.
    :param steps: names of the steps.
    :param metadata: type of the metadata provider.
    :param datastore: type of the datastore.
    :param datastore_root: its root.
    :param prefix: what the Airflow task ids of the flow start with; empty unless it stands in a larger DAG.
    :param is_mapped: whether the whole flow stands in a mapped task group, each of whose instances is a run.
    :param given: names of the parameters whose values the DAG file gives.
    :param events: events that the flow waits for, each with the parameters that it fills.
    :param foreachs: steps inside of a foreach: name, task that lists the index contexts, depth.
    """

    flow: str
    owner: str
    project: str | None
    branch: str | None
    steps: tuple[str, ...]
    metadata: str
    datastore: str
    datastore_root: str
    prefix: str = ""
    is_mapped: bool = False
    given: tuple[str, ...] = ()
    events: tuple[tuple[str, tuple[str, ...]], ...] = ()
    foreachs: tuple[tuple[str, str, int], ...] = ()


def flows_of(data: Any) -> list[ShownRecord]:
    """Return what a serialized DAG says of its flows, one or several of which may stand in a larger DAG.

    Only the field that :class:`~airflow_provider_metaflow.operators.step.MetaflowStepOperator` writes counts:
    documentation comes from flow files.

    :param data: Airflow's JSON form of the DAG.
    """
    found = []
    for task in ((data or {}).get("dag") or {}).get("tasks") or ():
        fields = task.get("__var") or {}
        if (fields.get("_task_module"), fields.get("task_type")) == _STEP and "metaflow_record" in fields:
            found.append(fields["metaflow_record"])
    try:
        return [msgspec.json.decode(one, type=ShownRecord) for one in found]
    except (TypeError, msgspec.DecodeError):
        return []


def record_of(manifest: Manifest) -> DeploymentRecord:
    """Return the record of a compiled flow.

    :param manifest: the compiled flow.
    """
    record = from_markdown(record_line(manifest))
    assert record is not None  # noqa: S101  (just written)
    return record


def record_text(text: Any) -> str | None:
    """Return the record of a DAG's documentation without the rest of it, as :func:`from_markdown` reads it.

    :param text: ``doc_md`` of the DAG.
    """
    found = _PATTERN.findall(text) if isinstance(text, str) else []
    return LINE.format(found[-1]) if found else None


def from_markdown(text: str | None) -> DeploymentRecord | None:
    """Return the record that a DAG's documentation holds; None if it holds none that can be read.

    :param text: ``doc_md`` of the DAG.
    """
    # The last one: what stands before is the flow's own documentation, which may hold anything.
    found = _PATTERN.findall(text or "")
    if not found:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(found[-1]), type=DeploymentRecord)
    except (ValueError, msgspec.DecodeError):
        return None
