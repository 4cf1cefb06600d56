"""The options of a deployment on Argo Workflows, as type checkers know them, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from metaflow_adapters.argo.objects.events import EventSettings

JOBSET = "jobset"
JOB = "job"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgoOptions:
    """Options of a deployment that are Argo's own.

    :param namespace: Kubernetes namespace of the objects; None leaves it to who applies them.
    :param image: image of all steps, in place of those of their decorators.
    :param priority: ``--workflow-priority``.
    :param title: ``--workflow-title``.
    :param description: ``--workflow-description``.
    :param ttl_seconds: after how long a finished workflow is deleted; None for never.
    :param pod_gc: when pods are deleted, e.g. ``OnPodSuccess``; None leaves it to Argo.
    :param gang: what a ``@parallel`` step is: ``jobset``, or ``job`` (an Indexed Job) where JobSet is not installed.
    :param concurrency_policy: of a scheduled flow, while an earlier run still runs: ``Allow``, ``Forbid``, ``Replace``.
    :param successful_runs_kept: of a scheduled flow; 10,000, if left out.
    :param failed_runs_kept: of a scheduled flow; 10,000, if left out.
    :param report_failures: whether a notification of a failure says what failed first.
    :param heartbeat: whether a container next to the steps keeps the run alive for Metaflow's service.
    :param events: how events come to this installation; Metaflow's configuration, if left out.
    """

    namespace: str | None = None
    image: str | None = None
    priority: int | None = None
    title: str | None = None
    description: str | None = None
    ttl_seconds: int | None = None
    pod_gc: str | None = None
    gang: str = JOBSET
    concurrency_policy: str | None = None
    successful_runs_kept: int | None = None
    failed_runs_kept: int | None = None
    report_failures: bool = True
    heartbeat: bool = False
    events: EventSettings | None = None


class ArgoOptionFields(TypedDict, total=False):
    """The fields of :class:`ArgoOptions`, as keyword arguments."""

    namespace: str | None
    image: str | None
    priority: int | None
    title: str | None
    description: str | None
    ttl_seconds: int | None
    pod_gc: str | None
    gang: str
    concurrency_policy: str | None
    successful_runs_kept: int | None
    failed_runs_kept: int | None
    report_failures: bool
    heartbeat: bool
    events: EventSettings | None


class CompileArguments(TypedDict, total=False):
    """How the flow of an embedded one is compiled; see :func:`~.compile.compile_flow`."""

    top_level: Sequence[str]
    create: Sequence[str]
    environment: Mapping[str, str] | None
    python: str | None
    cache: str | Path | None
