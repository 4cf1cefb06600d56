"""Where a step runs, and with which options of the DAG file: decided from one manifest, at a parse and for a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.compute import Compute

from .options import check_options, resolve_compute


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a step runs.

    :param compute: the platform.
    :param options: of the DAG file, for that platform.
    """

    compute: Compute = Compute.LOCAL
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether the step is a process of the worker."""
        return self.compute is Compute.LOCAL

    @property
    def runs_arrays(self) -> bool:
        """Whether all tasks of a task instance run as one array of the platform."""
        return self.compute is Compute.BATCH and bool(self.options.get("array_jobs"))


def place_step(
    manifest: Manifest,
    step: str,
    chosen: str | None,
    kubernetes: Mapping[str, Any] | None = None,
    batch: Mapping[str, Any] | None = None,
) -> Placement:
    """Return where a step of a flow runs.

    >>> place_step(manifest, "train", None, kubernetes={"namespace": "ml"})
    Placement(compute=<Compute.KUBERNETES: 'kubernetes'>, options={'namespace': 'ml'})

    :param manifest: the compiled flow.
    :param step: name of the step.
    :param chosen: ``compute`` of the DAG file; None leaves it to the step's decorators.
    :param kubernetes: options of the DAG file for pods.
    :param batch: options of the DAG file for AWS Batch jobs.
    :raises MetaflowProviderError: if the step cannot run there, or not with these options.
    """
    found = manifest.graph.step(step)
    compute = resolve_compute(manifest, found, chosen)
    options = dict({Compute.KUBERNETES: kubernetes, Compute.BATCH: batch}.get(compute) or {})
    check_options(manifest, found, compute, options)
    return Placement(compute, options)
