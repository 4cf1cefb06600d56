"""Where a step runs, by its decorators or by the user's choice. Shared by all targets."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError

from .model import FlowGraph, Step


class Compute(str, Enum):
    """Where the tasks of a step run."""

    LOCAL = "local"
    """A process of the orchestrator's worker."""
    KUBERNETES = "kubernetes"
    BATCH = "batch"


FOREIGN = ("slurm", "nvidia", "nvct", "snowpark", "skypilot_step")
"""Compute decorators of Metaflow extensions, which have no way to run a step from another scheduler."""

_MAXIMA = ("cpu", "memory", "disk")
_OVERRIDES = ("gpu", "shared_memory")


def attributes_of(step: Step, decorator: str) -> dict[str, Any] | None:
    """Return the attributes of a step's decorator, None if it has none of that name.

    :param step: the step.
    :param decorator: name of the decorator.
    """
    return next((one.attributes for one in step.decorators if one.name == decorator), None)


def compute_of(step: Step) -> Compute:
    """Return where the decorators of a step say that it runs.

    :param step: the step.
    """
    for compute in (Compute.KUBERNETES, Compute.BATCH):
        if attributes_of(step, compute.value) is not None:
            return compute
    return Compute.LOCAL


def parse_compute(value: str, flow: str, step: str | None = None) -> Compute:
    """Return the compute that a user has named.

    :param value: e.g. ``"kubernetes"``.
    :param flow: flow to name in an error.
    :param step: step to name in an error.
    :raises InvalidOptionError: if there is none of that name.
    """
    try:
        return Compute(value)
    except ValueError:
        known = ", ".join(repr(one.value) for one in Compute)
        raise InvalidOptionError(
            f"compute is {value!r}.", flow=flow, step=step, hint=f"It must be one of {known}."
        ) from None


def merge_resources(step: Step, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a compute decorator with those of ``@resources`` merged in, as Metaflow merges them.

    The larger of both counts for cpu, memory and disk, and ``@resources`` for gpu and shared memory
    (``metaflow.plugins.kubernetes.kubernetes_decorator.step_init``).

    :param step: the step.
    :param attributes: attributes of ``@kubernetes`` or ``@batch``.
    """
    merged = dict(attributes)
    resources = attributes_of(step, "resources") or {}
    for name in _OVERRIDES:
        if resources.get(name) is not None and name in merged:
            merged[name] = resources[name]
    for name in _MAXIMA:
        own, other = merged.get(name), resources.get(name)
        if name in merged and other is not None:
            merged[name] = str(max(float(own or 0), float(other or 0)))
    return merged


def validate_compute(graph: FlowGraph, environment_type: str) -> None:
    """Check that each step can run where its decorators say.

    Metaflow itself has refused ``@kubernetes`` or ``@batch`` with a local datastore, both at once, and time limits
    below a minute.

    :param graph: the flow.
    :param environment_type: Metaflow's ``--environment`` of the deployment.
    :raises UnsupportedFeatureError: naming the step and the decorator.
    """
    for step in graph.steps:
        for decorator in step.decorators:
            if decorator.name in FOREIGN:
                raise UnsupportedFeatureError(
                    f"@{decorator.name} asks for compute that cannot be started from here.",
                    flow=graph.name,
                    step=step.name,
                    hint="Use @kubernetes, @batch, or neither for a process of the worker.",
                )
        if environment_type != "local" and compute_of(step) is Compute.LOCAL:
            raise UnsupportedFeatureError(
                f"--environment={environment_type} needs remote compute; without it a step runs with the worker's own "
                "interpreter.",
                flow=graph.name,
                step=step.name,
                hint="Add @kubernetes or @batch, or install the flow's packages on the worker and drop --environment.",
            )
