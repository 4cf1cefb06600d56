"""The public interface as a type checker sees it; never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG, TaskGroup
from hera.workflows import CronWorkflow, Task, WorkflowTemplate

from airflow_provider_metaflow import FlowTranslator, MetaflowDag, MetaflowTaskGroup, StepContext, load_flows
from metaflow_adapters import argo, step_functions
from metaflow_adapters.argo import ArgoDeployment, ArgoOptions, EmbeddedFlow
from metaflow_adapters.step_functions import FlowMachine


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

on_argo: ArgoDeployment = argo.compile_flow("flow.py", name="nightly", options=ArgoOptions(priority=3), namespace="ml")
template: WorkflowTemplate = on_argo.template
cron: CronWorkflow | None = on_argo.cron
documents: list[dict[str, Any]] = on_argo.to_dicts()
embedded: EmbeddedFlow = argo.embed_flow("flow.py", "train", top_level=["--with", "retry"], options=ArgoOptions())
task: Task = embedded.task("first", parameters={"alpha": 0.5}, run="{{item}}")
another: Task = argo.flow_task("flow.py", "train", compile_options={"environment": {"A": "b"}})
# Names and types of options are known: each of these comments is an error if there is nothing to ignore.
argo.compile_flow("flow.py", namespce="ml")  # type: ignore[call-arg]
argo.compile_flow("flow.py", priority="high")  # type: ignore[arg-type]
argo.embed_flow("flow.py", "train", namespace="ml")  # type: ignore[call-arg]

machine: FlowMachine = step_functions.compile_flow("flow.py", name="nightly")
