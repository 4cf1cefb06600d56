"""How users shape the Airflow tasks of a flow: overrides by step, or a translator of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from inspect import signature
from typing import Any

import msgspec

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph, Step

OWN = frozenset({"batch", "compute", "kubernetes", "python", "warm_process"})
"""Arguments of our operator that may be given for a step; see :class:`MetaflowStepOperator`."""

_CONTRADICTS = {
    "allow_nested_operators": "it is of no use to a step",
    "dag": "a step belongs to the DAG of its flow",
    "default_args": "give default_args to the DAG",
    "end_date": "a run after it would never end",
    "multiple_outputs": "the result of a step is one pathspec",
    "params": "the parameters of a flow are those of its run; give `parameters` to MetaflowDag",
    "start_date": "a run before it would never end",
    "task_group": "a step stands where its flow has it",
    "task_id": "the task of a step is named after it",
    "trigger_rule": "the flow decides when a step runs: another rule would run what no switch has chosen, or skip what "
    "one has",
}
"""Arguments of Airflow's ``BaseOperator`` that would contradict the flow, and why."""


@cache
def allowed(operator: type) -> frozenset[str]:
    """Return the operator arguments that may be given for a step.

    They are ours and those of Airflow's operators, but for what contradicts the flow.

    :param operator: Airflow's ``BaseOperator``.
    """
    known = signature(operator).parameters
    names = {name for name, one in known.items() if one.kind is one.KEYWORD_ONLY}
    return frozenset(OWN | names - _CONTRADICTS.keys())


class StepContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a translator may look at.

    ```python
    from airflow_provider_metaflow import FlowTranslator


    class OnePoolForEachFlow(FlowTranslator):
        def pool(self, context):
            return f"{context.flow.name}-splits" if context.mapped else context.flow.name
    ```

    New in version 0.1.0.

    :param flow: the flow.
    :param step: the step.
    :param mapped: whether the step stands in a foreach.
    """

    flow: FlowGraph
    step: Step
    mapped: bool


class FlowTranslator:
    """Decides the Airflow arguments of each step; subclass it and override what you need.

    ```python
    from airflow_provider_metaflow import FlowTranslator, MetaflowDag


    class LargeStepsInTheirQueue(FlowTranslator):
        def queue(self, context):
            asked = [one.name for one in context.step.decorators]
            return "large" if "resources" in asked else None


    dag = MetaflowDag("flows/training.py", translator=LargeStepsInTheirQueue())
    ```

    New in version 0.1.0.
    """

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
    translator: FlowTranslator, context: StepContext, overrides: Mapping[str, Mapping[str, Any]], operator: type
) -> dict[str, Any]:
    """Return the operator arguments of a step that users decide; overrides win over the translator.

    :param translator: the translator.
    :param context: the step.
    :param overrides: checked ``step_overrides``.
    :param operator: Airflow's ``BaseOperator``, whose arguments may be given.
    """
    chosen = {
        "pool": translator.pool(context),
        "queue": translator.queue(context),
        "executor_config": translator.executor_config(context),
    }
    arguments = {name: value for name, value in chosen.items() if value is not None}
    further = translator.operator_arguments(context)
    _check(context.flow, context.step, further, f"{type(translator).__name__}.operator_arguments", allowed(operator))
    arguments.update(further)
    arguments.update(overrides.get(context.step.name, {}))
    return arguments


def check_overrides(graph: FlowGraph, overrides: Mapping[str, Mapping[str, Any]], operator: type) -> None:
    """Check ``step_overrides``.

    :param graph: the flow.
    :param overrides: operator arguments by step.
    :param operator: Airflow's ``BaseOperator``, whose arguments may be given.
    :raises InvalidOptionError: naming the unknown step or argument and the nearest known one, or what
        contradicts the flow.
    """
    steps = {step.name: step for step in graph.steps}
    for name, arguments in overrides.items():
        if name not in steps:
            raise InvalidOptionError(
                f"step_overrides names the unknown step {name!r}.",
                flow=graph.name,
                hint=_nearest(name, list(steps)),
            )
        _check(graph, steps[name], arguments, "step_overrides", allowed(operator))


def check_default_args(graph: FlowGraph, default_args: Mapping[str, Any], owner: str) -> None:
    """Check ``default_args`` that are for the tasks of one flow.

    :param graph: the flow.
    :param default_args: what was given.
    :param owner: name of the class that they were given to.
    :raises InvalidOptionError: if one could not take effect.
    """
    lost = {
        "parameters": f"no step takes parameters of its own; give `parameters` to {owner}",
        "trigger_rule": _CONTRADICTS["trigger_rule"],
    }
    for name, reason in lost.items():
        if name in default_args:
            raise InvalidOptionError(
                f"default_args has the key {name!r}, which contradicts the flow: {reason}.",
                flow=graph.name,
                hint="Leave it out.",
            )


def _check(graph: FlowGraph, step: Step, arguments: Mapping[str, Any], where: str, known: frozenset[str]) -> None:
    for name in arguments:
        if name in _CONTRADICTS:
            raise InvalidOptionError(
                f"{where} has the key {name!r}, which contradicts the flow: {_CONTRADICTS[name]}.",
                flow=graph.name,
                step=step.name,
                hint="Leave it out.",
            )
        if name not in known:
            raise InvalidOptionError(
                f"{where} has the unknown key {name!r}.",
                flow=graph.name,
                step=step.name,
                hint=_nearest(name, sorted(known)),
            )


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(known)}."
