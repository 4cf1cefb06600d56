"""The public interface as a type checker sees it; never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG, TaskGroup

from airflow_provider_metaflow import FlowTranslator, MetaflowDag, MetaflowTaskGroup, StepContext, load_flows


class Translator(FlowTranslator):
    def pool(self, context: StepContext) -> str | None:
        return "gpu" if context.step.gang else None

    def operator_arguments(self, context: StepContext) -> Mapping[str, Any]:
        return {"priority_weight": len(context.flow.steps)}


dag: DAG = MetaflowDag(
    "flow.py",
    pool="ml",
    is_paused_upon_creation=True,
    max_active_runs=1,
    step_overrides={"train": {"queue": "gpu"}},
    translator=Translator(),
)
group: TaskGroup = MetaflowTaskGroup("flow.py", group_id="one", parameters={"alpha": 0.5})
dags: list[DAG] = load_flows(globals(), "flows/", pool="ml")
