"""What the DAG run around a step gives to its tasks, and what it learns from them: parameters, variables, events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow.plan.events import (
    ReceivedEvent,
    event_of,
    make_payload,
    mapped_values,
    read_payload,
    step_payload,
    trigger_text,
)
from airflow_provider_metaflow.plan.parameters import command_line_values
from metaflow_orchestration.graph.model import FlowGraph, Step

if TYPE_CHECKING:
    from airflow.sdk import Context


class DagRunContext:
    """The DAG run of one task instance.

    :param graph: the flow.
    :param context: Airflow's task context.
    """

    def __init__(self, graph: FlowGraph, context: Context) -> None:
        self._graph, self._context = graph, context
        self._ti: Any = context["ti"]

    def parameters(self, given: Mapping[str, Any] | None, *, fill: bool = False) -> dict[str, str]:
        """Return the parameters of the run in the text form of Metaflow's command line.

        :param given: values inside a larger DAG; None takes those of the DAG run and of the events that started it.
        :param fill: ``given`` stands in for those that the DAG run leaves null, and that no event brings.
        """
        if given is not None and not fill:
            return command_line_values(self._graph, given)
        params = dict(self._context["params"])
        rendered = {name: value for name, value in (given or {}).items() if params.get(name) is None}
        return command_line_values(self._graph, {**params, **rendered, **self._event_values()})

    def given_values(self) -> dict[str, Any]:
        """Return the parameters' values that the DAG run was started with, or an event brings; nulls are left out."""
        chosen = {name: value for name, value in self._context["params"].items() if value is not None}
        return {**chosen, **self._event_values()}

    def _event_values(self) -> dict[str, Any]:
        return mapped_values(self._graph.name, self._graph.triggers, self._received_events())

    def variables(self) -> dict[str, str]:
        """Return the variables by which a task knows its Airflow run and the events that started it."""
        from airflow.sdk.execution_time.context import context_to_airflow_vars

        variables = dict(context_to_airflow_vars(self._context, in_env_var_format=True))
        events = self._received_events()
        if events:
            variables["METAFLOW_ORCHESTRATOR_TRIGGERS"] = trigger_text(self._graph, events)
        return variables

    def task_variables(self) -> dict[str, str]:
        """Return the same for a task in a container, with the metadata that link it to its run."""
        return {**self.variables(), "METAFLOW_ORCHESTRATOR_LINKS": json.dumps(self.links())}

    def links(self) -> dict[str, str]:
        """Return the metadata that link a task to its Airflow run."""
        ti = self._ti
        return {
            "airflow-dag-id": ti.dag_id,
            "airflow-dag-run-id": ti.run_id,
            "airflow-task-id": ti.task_id,
            "airflow-map-index": str(ti.map_index),
            "airflow-try-number": str(ti.try_number),
        }

    def emit_events(self, outlets: Iterable[Any], step: Step, run_id: str, task_ids: Sequence[str]) -> None:
        """Fill in the payloads of the events that Airflow publishes when the task instance has succeeded.

        :param outlets: outlets of the operator.
        :param step: the step.
        :param run_id: Metaflow run id.
        :param task_ids: its Metaflow tasks.
        """
        payload = step_payload(self._graph, step.name, run_id, list(task_ids))
        published = self._context["outlet_events"]
        for outlet in outlets:
            event = event_of(str(getattr(outlet, "name", "")))
            if event is not None:
                published[outlet].extra = make_payload(event, payload)

    def _received_events(self) -> list[ReceivedEvent]:
        """Return the events that the DAG run was started by."""
        dag_run: Any = self._context["dag_run"]
        named = [(event_of(str(one.asset.name)), one) for one in dag_run.consumed_asset_events]
        return [
            ReceivedEvent(name=name, payload=read_payload(one.extra), timestamp=one.timestamp.timestamp())
            for name, one in named
            if name is not None
        ]
