"""The policies hold what the machine calls, and nothing beyond this deployment."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from airflow_provider_metaflow.flow.manifest import Manifest
from airflow_provider_metaflow.graph.model import EventTrigger
from metaflow_adapters.step_functions import FlowMachine

Make = Callable[..., FlowMachine]


def actions(machine: FlowMachine, role: str) -> dict[str, list[str]]:
    statements = machine.resources.policies[role]["Statement"]
    return {action: one["Resource"] for one in statements for action in one["Action"]}


def test_a_linear_flow_needs_batch_and_its_own_objects_only(machine: Make) -> None:
    made = machine("linear")
    allowed = actions(made, "state_machine")
    assert set(allowed) == {
        "batch:SubmitJob", "batch:DescribeJobs", "batch:TerminateJob", "events:PutTargets", "events:PutRule",
        "events:DescribeRule", "s3:GetObject", "s3:PutObject",
    }  # fmt: skip
    (definition,) = made.resources.job_definitions
    assert f"arn:aws:batch:eu-west-1:123456789012:job-definition/{definition['jobDefinitionName']}" in allowed[
        "batch:SubmitJob"
    ]  # fmt: skip
    assert allowed["s3:GetObject"] == ["arn:aws:s3:::bucket/metaflow/mf.sfn/LinearFlow/*"]


def test_a_distributed_map_may_start_its_own_children(machine: Make) -> None:
    allowed = actions(machine("nested_foreach"), "state_machine")
    assert allowed["states:StartExecution"] == ["arn:aws:states:eu-west-1:123456789012:stateMachine:nested-foreach"]
    assert "states:StartExecution" not in actions(machine("nested_foreach", distributed=False), "state_machine")


def test_events_may_start_the_machine_and_its_helpers(machine: Make) -> None:
    def change(manifest: Manifest) -> Manifest:
        replace = msgspec.structs.replace
        triggers = (EventTrigger(event="a"), EventTrigger(event="metaflow.Other.end", of_run=True))
        return replace(manifest, graph=replace(manifest.graph, triggers=triggers))

    made = machine("linear", change=change)
    started = actions(made, "events")["states:StartExecution"]
    assert [one.rpartition(":")[2] for one in started] == ["linear", "linear-events"]
    patterns = [json.loads(one["EventPattern"]) for one in made.resources.rules]
    assert patterns[0] == {"source": ["metaflow"], "detail-type": ["a"]}
    assert patterns[1]["detail"]["stateMachineArn"] == ["arn:aws:states:eu-west-1:123456789012:stateMachine:Other"]
    assert "s3:DeleteObject" in actions(made, "state_machine")
