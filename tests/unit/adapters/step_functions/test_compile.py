"""The state machine of each shape (golden files; renew with --update-golden)."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonata
import msgspec
import pytest
from tests.engines.aws.refusals import refuse
from tests.support.aws_account import SETTINGS

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.emit.job_states import LONG_INPUT
from metaflow_adapters.step_functions.language.states import Map, Task
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.model import Parameter, ParameterType

GOLDEN = Path(__file__).parents[3] / "golden"
VALIDATOR = Path(os.environ.get("TEST_SECOND_OPINIONS_HOME", Path.home() / ".cache/test-second-opinions"))
SHAPES = [
    "linear", "single_step", "custom_names", "static_split", "foreach", "nested_foreach", "split_in_foreach",
    "foreach_in_split", "switch", "switch_in_foreach", "switch_in_split", "recursion", "parallel",
]  # fmt: skip

Make = Callable[..., FlowMachine]


def readable(document: Any) -> Any:
    """Decode the documents of containers, whose bytes depend on the version of zlib."""
    if isinstance(document, dict):
        return {key: readable(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [readable(one) for one in document]
    if isinstance(document, str) and document.startswith("eN"):
        return json.loads(zlib.decompress(base64.b64decode(document)))
    if isinstance(document, str) and document.startswith("import base64"):
        return "<the program of flow/container.py>"
    return document


def without_hashes(made: FlowMachine) -> dict[str, Any]:
    """The machine and its job definitions, with numbers in the place of hashes, which depend on zlib, too."""
    text = made.to_json()
    definitions = []
    for number, one in enumerate(made.resources.job_definitions):
        text = text.replace(one["jobDefinitionName"], f"definition-{number}")
        definitions.append({**one, "jobDefinitionName": f"definition-{number}"})
    return {"definition": json.loads(text), "job_definitions": readable(definitions)}


def task(made: FlowMachine, name: str) -> Task:
    found = next(one for one in made.states.all_states() if one.name == name)
    assert isinstance(found, Task)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_the_state_machine_is_that_of_the_last_release(
    shape: str, machine: Make, request: pytest.FixtureRequest
) -> None:
    made = without_hashes(machine(shape))
    file = GOLDEN / shape / "asl.json"
    if request.config.getoption("--update-golden"):
        file.write_text(json.dumps(made, indent=1) + "\n")
    assert made == json.loads(file.read_text())


DECORATED_HERE = ["careful", "jobs", "nightly", "on_finish", "triggered"]
"""Those for AWS; `pods` is for Kubernetes."""


def without_fargate(manifest: Manifest) -> Manifest:
    """Take an attribute away that only Fargate knows, which knows not the others."""
    for step in manifest.graph.steps:
        for one in step.decorators:
            one.attributes.pop("ephemeral_storage", None)
    return manifest


@pytest.mark.parametrize("flow", DECORATED_HERE)
def test_all_that_belongs_to_a_decorated_flow_is_that_of_the_last_release(
    flow: str, machine: Make, request: pytest.FixtureRequest
) -> None:
    """Machines, job definitions, rules, schedules, policies and trust policies."""
    made = machine(f"decorated/{flow}", change=without_fargate, settings=SETTINGS)
    text = json.dumps([without_hashes(made), *made.resources.state_machines.items()])
    for number, one in enumerate(made.resources.job_definitions):
        text = text.replace(one["jobDefinitionName"], f"definition-{number}")
    whole, *helpers = json.loads(text)
    found = {
        **whole,
        "state_machines": {name: readable(definition) for name, definition in helpers},
        "schedules": list(made.resources.schedules),
        "rules": list(made.resources.rules),
        "policies": dict(made.resources.policies),
        "trust": made.trust_policies(),
    }
    file = GOLDEN / "decorated" / flow / "asl.json"
    if request.config.getoption("--update-golden"):
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(file.read_text())
    assert refuse(made.to_json()) is None
    assert all(refuse(json.dumps(definition)) is None for definition in made.resources.state_machines.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_aws_would_take_the_definition(shape: str, machine: Make) -> None:
    for options in ({}, {"distributed": True}, {"deployment": {"max_workers": 3}}):
        assert refuse(machine(shape, **options).to_json()) is None


@pytest.mark.subprocess
def test_a_second_validator_takes_all_definitions(machine: Make, tmp_path: Path) -> None:
    """npm's asl-validator, which `scripts/second_opinions.sh` installs; it finds what is broken on purpose, too."""
    program = VALIDATOR / "node_modules/.bin/asl-validator"
    assert program.exists(), f"{program} is missing: run scripts/second_opinions.sh"
    files = []
    for shape in SHAPES:
        files.append(tmp_path / f"{shape}.json")
        files[-1].write_text(machine(shape).to_json())
    arguments = [argument for file in files for argument in ("--json-path", str(file))]
    found = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    broken = files[0].read_text().replace('"Next":"middle"', '"Next":"nowhere"').replace('"Next":"end"', '"Next":"no"')
    files[0].write_text(broken)
    found = subprocess.run([str(program), "--json-path", str(files[0])], capture_output=True, text=True, check=False)
    assert found.returncode != 0


def test_two_compilations_give_the_same_bytes(machine: Make) -> None:
    assert len({machine("switch_in_foreach").to_json() for _ in range(2)}) == 1


def evaluated(expression: str, made: FlowMachine) -> Any:
    """What an expression gives with the variables that the start step has set."""
    shared = json.dumps(task(made, "start").assign["job"])
    context = json.dumps({"context": {"Execution": {"Name": "x"}, "State": {"RetryCount": 1}}})
    return jsonata.Jsonata(f"($at:='sfn-x/t-';$job:={shared};$states:={context};{expression})").evaluate(None)


def test_a_foreach_of_one_step_is_an_array_and_one_of_several_a_distributed_map(machine: Make) -> None:
    made = machine("foreach")
    arguments = task(made, "upper").arguments

    def evaluate(splits: int) -> dict[str, Any]:
        return evaluated(f"$n:={splits};{arguments[2:-2]}", made)

    assert evaluate(7)["ArrayProperties"] == {"Size": 7}
    # AWS Batch takes no array of one: its only child is told its index.
    assert "ArrayProperties" not in evaluate(1)
    places = [evaluate(n)["ContainerOverrides"]["Environment"][0]["Value"] for n in (1, 7)]
    assert places == ["upper/sfn-x/t-0-", "upper/sfn-x/t-"]
    maps = [one for one in made.states.all_states() if isinstance(one, Map)]
    assert [one.distributed for one in maps] == [True]


def test_a_limit_of_workers_makes_maps_of_all_foreaches(machine: Make) -> None:
    made = machine("foreach", deployment={"max_workers": 5}, distributed=False)
    maps = {one.name: one for one in made.states.all_states() if isinstance(one, Map)}
    assert set(maps) >= {"start: for each split", "refan: for each split"}
    assert {one.max_concurrency for one in maps.values()} == {5}
    assert {one.distributed for one in maps.values()} == {False}


def test_a_distributed_map_has_the_limit_of_metaflows_own_deployer_unless_another_is_given(machine: Make) -> None:
    def limits(max_workers: int | None) -> set[int | None]:
        made = machine("split_in_foreach", deployment={"max_workers": max_workers})
        return {one.max_concurrency for one in made.states.all_states() if isinstance(one, Map)}

    assert [limits(one) for one in (None, 0, 500)] == [{100}, {0}, {500}]


@pytest.mark.parametrize("shape", SHAPES)
def test_names_of_states_are_steps_or_say_in_words_what_they_do(machine: Make, shape: str) -> None:
    made = machine(shape)
    steps = {one.name for one in made.manifest.graph.steps}
    words = {
        "count splits", "count nodes", "read choice", "for each split", "branches", "switch", "done", "wait for job",
        "read job status", "check job status", "wait to retry", "job failed",
    }  # fmt: skip
    for one in made.states.all_states():
        step, _, what = one.name.partition(": ")
        assert step in {*steps, LONG_INPUT}, one.name
        assert not what or what in words, one.name


def test_only_the_outer_map_is_distributed(machine: Make) -> None:
    maps = [one for one in machine("nested_foreach").states.all_states() if isinstance(one, Map)]
    assert [one.distributed for one in maps] == [True, *[False] * (len(maps) - 1)]
    assert len(maps) > 1


def test_overrides_of_a_trivial_flow_are_small(machine: Make) -> None:
    made = machine("linear")
    sizes = []
    for state in made.states.all_states():
        arguments = state.to_asl()["Arguments"]
        if isinstance(arguments, str):
            arguments = evaluated(arguments[2:-2], made)
        # An execution's name has 36 characters.
        sizes.append(len(json.dumps(arguments["ContainerOverrides"])) + 36)
    assert len(sizes) == len(made.manifest.graph.steps)
    assert max(sizes) <= 600


def test_what_submissions_share_is_in_a_variable_but_in_maps(machine: Make) -> None:
    """Executions of distributed maps see no variable from outside, and an inline map may be in one."""
    made = machine("split_in_foreach")
    shared = task(made, "start").assign["job"]
    assert set(shared) == {"JobDefinition", "JobQueue", "Tags"}
    end = evaluated(str(task(made, "end").arguments)[2:-2], made)
    assert {name: end[name] for name in shared} == shared
    assert end["ContainerOverrides"]["Environment"] == [{"Name": "METAFLOW_PLACE", "Value": "end/sfn-x/t-"}]
    (body,) = [one.body for one in made.states.all_states() if isinstance(one, Map)]
    for one in body.all_states():
        assert "$job" not in json.dumps(one.to_asl())
        assert "$at" not in json.dumps(one.to_asl())


def test_only_an_input_that_may_be_long_has_a_way_to_the_datastore(machine: Make) -> None:
    def of(kind: ParameterType, name: str = "alpha") -> FlowMachine:
        return machine("linear", change=with_parameters(Parameter(name=name, variable="alpha", type=kind)))

    def has_way(made: FlowMachine) -> bool:
        return any(one.name == LONG_INPUT for one in made.states.all_states())

    assert not has_way(machine("linear"))
    assert [has_way(of(one)) for one in (ParameterType.INT, ParameterType.FLOAT, ParameterType.BOOL)] == [False] * 3
    assert [has_way(of(one)) for one in (ParameterType.STR, ParameterType.JSON, ParameterType.FILE)] == [True] * 3
    assert has_way(of(ParameterType.INT, "a" * 1000))
    # What a resume runs again is in the input, too.
    assert has_way(machine("linear", change=lengthened(300)))


def with_parameters(*parameters: Parameter) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        graph = msgspec.structs.replace(manifest.graph, parameters=parameters)
        return msgspec.structs.replace(manifest, graph=graph)

    return change


def test_a_long_flow_fits_into_one_definition(machine: Make) -> None:
    made = machine("linear", change=lengthened(2000))
    assert len(made.to_json().encode()) < 1024 * 1024
    # Its document is too long for a job definition, and goes to the datastore.
    (url,) = made.resources.uploads
    environment = made.resources.job_definitions[0]["containerProperties"]["environment"]
    assert {"name": "METAFLOW_ORCHESTRATOR_FLOW", "value": f"@{url}"} in environment


def lengthened(steps: int) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        graph = manifest.graph
        (first, *middle, last) = graph.steps
        names = [f"s{number:05}" for number in range(steps)]
        parents, following = [first.name, *names[:-1]], [*names[1:], last.name]
        replace = msgspec.structs.replace
        made = [
            replace(middle[0], name=name, parents=(before,), next_steps=(after,))
            for name, before, after in zip(names, parents, following, strict=True)
        ]
        chain = (replace(first, next_steps=(names[0],)), *made, replace(last, parents=(names[-1],)))
        return replace(manifest, graph=replace(graph, steps=chain))

    return change


def test_a_definition_over_the_quota_is_refused(machine: Make) -> None:
    with pytest.raises(InvalidOptionError, match="AWS allows 1,048,576"):
        machine("linear", change=lengthened(3500))


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"image": None}, "step start: it has no image"),
        ({"queue": None}, "step start: it has no queue"),
        ({"iam_role": None}, "step start: @batch has no IAM role"),
        ({"colour": "red"}, "step start: @batch has the attribute 'colour'"),
    ],
)
def test_what_aws_cannot_honour_is_refused_with_the_step(machine: Make, attributes: dict[str, Any], told: str) -> None:
    def change(manifest: Manifest) -> Manifest:
        defaults = manifest.remote["compute_defaults"]["batch"]
        manifest.remote["compute_defaults"] = {"batch": {**defaults, **attributes}}
        return manifest

    with pytest.raises(UnsupportedFeatureError, match=told):
        machine("linear", change=change)


def test_fargate_refuses_a_gang(machine: Make) -> None:
    platform = {"arn:aws:batch:eu-west-1:123:job-queue/q": "FARGATE"}

    def change(manifest: Manifest) -> Manifest:
        defaults = manifest.remote["compute_defaults"]["batch"]
        manifest.remote["compute_defaults"] = {"batch": {**defaults, "execution_role": "arn:aws:iam::1:role/x"}}
        return manifest

    with pytest.raises(UnsupportedFeatureError, match="multi-node"):
        machine("parallel", change=change, platform=platform)
    assert machine("linear", change=change, platform=platform)


def test_the_machine_can_stand_in_another(machine: Make) -> None:
    made = machine("linear")
    state = made.nested_state({"alpha": "{% $states.input.alpha %}"}, Next="report")
    assert state["Arguments"]["StateMachineArn"] == "arn:aws:states:eu-west-1:123456789012:stateMachine:linear"
    whole = {
        "QueryLanguage": "JSONata", "StartAt": "train",
        "States": {"train": state, "report": {"Type": "Succeed"}},
    }  # fmt: skip
    assert refuse(json.dumps(whole)) is None


def test_no_definition_needs_a_table(machine: Make) -> None:
    assert not any("dynamodb" in machine(shape).to_json() for shape in SHAPES)


def test_equal_settings_share_a_job_definition(machine: Make) -> None:
    assert len(machine("static_split").resources.job_definitions) == 1
