"""How users shape the Airflow tasks of a flow: overrides by step, or a translator of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_metaflow.exceptions import InvalidOptionError
from airflow_provider_metaflow.graph.model import FlowGraph, Step

ALLOWED = frozenset(
    {
        "batch",
        "compute",
        "depends_on_past",
        "doc_md",
        "email",
        "execution_timeout",
        "executor",
        "executor_config",
        "kubernetes",
        "map_index_template",
        "max_active_tis_per_dag",
        "max_active_tis_per_dagrun",
        "on_execute_callback",
        "on_failure_callback",
        "on_retry_callback",
        "on_skipped_callback",
        "on_success_callback",
        "owner",
        "pool",
        "pool_slots",
        "priority_weight",
        "python",
        "queue",
        "retries",
        "retry_delay",
        "retry_exponential_backoff",
        "max_retry_delay",
        "run_as_user",
        "task_display_name",
        "trigger_rule",
        "wait_for_downstream",
        "warm_process",
        "weight_rule",
    }
)
"""Operator arguments that may be given for a step; others are ours to set, or do not exist."""


class StepContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a translator may look at.

    :param flow: the flow.
    :param step: the step.
    :param mapped: whether the step stands in a foreach.
    """

    flow: FlowGraph
    step: Step
    mapped: bool


class FlowTranslator:
    """Decides the Airflow arguments of each step; subclass it and override what you need."""

    def pool(self, context: StepContext) -> str | None:  # noqa: ARG002
        """Return the pool of a step, None for the pool of the flow.

        :param context: the step.
        """
        return None

    def queue(self, context: StepContext) -> str | None:  # noqa: ARG002
        """Return the queue of a step, None for Airflow's default.

        :param context: the step.
        """
        return None

    def executor_config(self, context: StepContext) -> dict[str, Any] | None:  # noqa: ARG002
        """Return the ``executor_config`` of a step.

        :param context: the step.
        """
        return None

    def operator_arguments(self, context: StepContext) -> Mapping[str, Any]:  # noqa: ARG002
        """Return further operator arguments of a step.

        :param context: the step.
        """
        return {}


def step_arguments(
    translator: FlowTranslator, context: StepContext, overrides: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the operator arguments of a step that users decide; overrides win over the translator.

    :param translator: the translator.
    :param context: the step.
    :param overrides: checked ``step_overrides``.
    """
    chosen = {
        "pool": translator.pool(context),
        "queue": translator.queue(context),
        "executor_config": translator.executor_config(context),
    }
    arguments = {name: value for name, value in chosen.items() if value is not None}
    arguments.update(translator.operator_arguments(context))
    arguments.update(overrides.get(context.step.name, {}))
    return arguments


def check_overrides(graph: FlowGraph, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    """Check ``step_overrides``.

    :param graph: the flow.
    :param overrides: operator arguments by step.
    :raises InvalidOptionError: naming the unknown step or argument and the nearest known one.
    """
    steps = [step.name for step in graph.steps]
    for step, arguments in overrides.items():
        if step not in steps:
            raise InvalidOptionError(
                f"step_overrides names the unknown step {step!r}.",
                flow=graph.name,
                hint=_nearest(step, steps),
            )
        for name in arguments:
            if name not in ALLOWED:
                raise InvalidOptionError(
                    f"step_overrides has the unknown key {name!r}.",
                    flow=graph.name,
                    step=step,
                    hint=_nearest(name, sorted(ALLOWED)),
                )


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(known)}."
