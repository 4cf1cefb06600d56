"""Pools, queues and priorities: for all steps, and step by step."""

from airflow_provider_metaflow import FlowTranslator, MetaflowDag, StepContext


class InForeach(FlowTranslator):
    def pool(self, context: StepContext) -> str | None:
        return "wide" if context.mapped else None


dag = MetaflowDag(
    "flows/demo.py",
    "demo_pools",
    pool="ml",
    translator=InForeach(),
    step_overrides={"compare": {"priority_weight": 10, "pool_slots": 2}},
)
