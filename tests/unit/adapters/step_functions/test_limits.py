"""What a run costs, by formulas that the integration tests measure for one flow, too."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import msgspec
import pytest
from tests.engines.aws.quotas import exceeded
from tests.support.aws_account import Account

from metaflow_adapters.step_functions import FlowMachine, StepFunctionsOptions
from metaflow_adapters.step_functions.check import StepFunctionsTarget
from metaflow_adapters.step_functions.limits import cost_of
from metaflow_orchestration.check.report import Row, State
from metaflow_orchestration.check.target import check_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import Parameter, ParameterType

Make = Callable[..., FlowMachine]


def test_a_linear_flow_costs_a_transition_and_six_events_a_step(machine: Make) -> None:
    made = machine("linear")
    cost = cost_of(made.states, splits=1)
    assert (cost.transitions, cost.events) == (3, 20)


def test_an_array_costs_the_same_however_wide_it_is(machine: Make) -> None:
    made = machine("switch_in_foreach")
    nested = machine("nested_foreach")
    for one, few, many in ((made, 2, 200), (nested, 2, 200)):
        low, high = (cost_of(one.states, splits=n) for n in (few, many))
        # Maps are distributed, so only their children's transitions grow.
        assert low.events == high.events
        assert low.transitions < high.transitions


def rows(made: FlowMachine, width: int, distributed: bool | None = None) -> dict[str, Row]:
    options = StepFunctionsOptions(settings=made.settings, distributed=distributed)
    return {row.subject: row for row in check_manifest(made.manifest, StepFunctionsTarget(options), width).rows}


def test_a_check_says_that_a_history_would_fill(machine: Make) -> None:
    made = machine("switch_in_foreach")
    history = rows(made, 5000, distributed=False)["history of a run"]
    assert (history.state, history.limit) == (State.EXCEEDED, 25_000)
    assert "--use-distributed-map" in history.fix
    found = rows(made, 5000)
    assert {row.state for row in found.values()} == {State.OK}
    cost = cost_of(made.states, splits=5000)
    assert found["state transitions of a run"].amount == cost.transitions
    price = found["price of 1,000 runs"]
    assert (price.amount, price.unit) == (cost.transitions * 0.025, "USD")


def test_a_check_says_that_an_array_has_ten_thousand_children_at_most(machine: Make) -> None:
    found = rows(machine("foreach"), 20_000)
    arrays = [row for subject, row in found.items() if subject.startswith("array job of ")]
    assert arrays
    assert {(row.state, row.share) for row in arrays} == {(State.EXCEEDED, 2.0)}
    assert all("--max-workers" in row.fix for row in arrays)
    narrow = rows(machine("foreach"), 10_000)
    assert {narrow[row.subject].state for row in arrays} == {State.OK}


def test_a_step_of_any_name_counts(machine: Make) -> None:
    def renamed(name: str) -> Callable[[Manifest], Manifest]:
        def change(manifest: Manifest) -> Manifest:
            (first, middle, last) = manifest.graph.steps
            replace = msgspec.structs.replace
            steps = (
                replace(first, next_steps=(name,)),
                replace(middle, name=name),
                replace(last, parents=(name,)),
            )
            return replace(manifest, graph=replace(manifest.graph, steps=steps))

        return change

    for name in ("pause", "input", "save_long_input"):
        assert cost_of(machine("linear", change=renamed(name)).states, splits=1).transitions == 3


def test_a_check_warns_of_maps_that_submit_more_than_aws_batch_takes(machine: Make) -> None:
    def warnings(max_workers: int | None, splits: int) -> list[Row]:
        made = machine("split_in_foreach", deployment={"max_workers": max_workers})
        return [row for row in rows(made, splits).values() if "50 submissions a second" in row.found]

    assert warnings(None, 10_000) == warnings(0, 1000) == warnings(1000, 10_000) == []
    (row,) = warnings(0, 10_000)
    assert (row.state, row.amount) == (State.WARNING, 10_000)
    assert row.subject == "splits at a time of start: for each split"
    assert "--max-workers" in row.fix
    # With a limit above that of inline maps the foreach inside is distributed, too.
    assert len(warnings(2000, 10_000)) == 2


def with_parameters(count: int, help_: str) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        made = tuple(
            Parameter(name=f"parameter_{n}", variable=f"parameter_{n}", type=ParameterType.STR, help=help_)
            for n in range(count)
        )
        return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, parameters=made))

    return change


def test_a_flow_with_sixty_documented_parameters_submits_no_more_than_aws_takes(
    account: Account, there: Callable[..., FlowMachine]
) -> None:
    made = there("linear", change=with_parameters(60, "What it is for, told at some length. " * 20))
    # The account refuses a submission of over 30 KiB.
    assert account.run(made, parameter_7="x" * 4000)["status"] == "SUCCEEDED"
    found = json.loads(made.definition["States"]["start"]["Arguments"]["Parameters"]["metaflow.parameters"])
    assert list(found) == [f"parameter_{n}" for n in range(60)]


def test_a_submission_that_would_be_too_long_is_refused_when_the_flow_is_compiled(machine: Make) -> None:
    with pytest.raises(InvalidOptionError, match=r"step start: the submission of its job may have .* 30,720"):
        machine("linear", change=with_parameters(400, ""))


def test_a_job_definition_that_would_be_too_long_is_refused_when_the_flow_is_compiled(machine: Make) -> None:
    def change(manifest: Manifest) -> Manifest:
        environment = {**manifest.remote["environment"], "METAFLOW_X": "x" * 25_000}
        return msgspec.structs.replace(manifest, remote={**manifest.remote, "environment": environment})

    made = machine("linear", change=change)
    # The flow's document goes to the datastore then; it is no part of the definition.
    assert all(exceeded("batch", "RegisterJobDefinition", one) is None for one in made.resources.job_definitions)

    def volumes(manifest: Manifest) -> Manifest:
        for step in manifest.graph.steps:
            for one in step.decorators:
                if one.name == "batch":
                    one.attributes.pop("ephemeral_storage", None)
                    one.attributes["host_volumes"] = [f"/{'x' * 100}{n}" for n in range(200)]
        return manifest

    with pytest.raises(InvalidOptionError, match=r"the job definition .* and AWS Batch allows 24,576"):
        machine("decorated/jobs", change=volumes)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"a*b": "c"}, r"the tag 'a\*b': 'c'; '\*' is not allowed in a tag"),
        ({"Größe": "t#g"}, "'#' is not allowed"),
        ({"x" * 129: "y"}, "128 characters at most"),
        ({"aws:x": "y"}, "are kept for AWS"),
        ({"": "y"}, "one character at least"),
        ({f"k{n}": "x" for n in range(51)}, "its jobs have 52 tags, and AWS Batch takes 50"),
    ],
)
def test_a_tag_that_aws_refuses_is_refused_when_the_flow_is_compiled(
    machine: Make, tags: Mapping[str, str], told: str
) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        machine("linear", batch_tags=tags)


def test_a_tag_of_a_decorator_is_checked_too(machine: Make) -> None:
    def change(manifest: Manifest) -> Manifest:
        for step in manifest.graph.steps:
            for one in step.decorators:
                if one.name == "batch":
                    one.attributes.pop("ephemeral_storage", None)
                    one.attributes["aws_batch_tags"] = {"cost": "inv@lid#"}
        return manifest

    with pytest.raises(InvalidOptionError, match=r"step \w+: its jobs have the tag 'cost': 'inv@lid#'"):
        machine("decorated/jobs", change=change)
