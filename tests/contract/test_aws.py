"""What moto cannot show: that AWS itself takes, evaluates and runs what the product makes. Only with `TEST_AWS=1`.

It costs a few cents: a job of AWS Batch for each task of the shapes. What it makes begins with `contract-`, and is
deleted.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonata
import pytest
from tests.support.real_aws import real_step_functions, states_arn
from tests.support.recorded import DECORATED, SHAPES, on_s3
from tests.support.results import local_artifacts
from tests.support.shapes import SHAPES as RUNS
from tests.support.step_functions import Execution, StepFunctions

from metaflow_adapters.step_functions import FlowMachine, compile_flow
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_orchestration.documents.manifest import Manifest

pytestmark = [pytest.mark.aws_account, pytest.mark.subprocess]


@pytest.fixture(scope="module")
def aws(given_settings: dict[str, str]) -> Iterator[StepFunctions]:
    """The account, with its credentials in place of those of the tests' own engines."""
    found = real_step_functions(given_settings)
    with pytest.MonkeyPatch.context() as patch:
        for name in [one for one in os.environ if one.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in given_settings.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture
def machine(aws: StepFunctions, recorded: Callable[[str], Manifest]) -> Callable[..., FlowMachine]:
    settings = AwsSettings(
        machine_role=aws.environment["METAFLOW_SFN_IAM_ROLE"],
        events_role=aws.environment["METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE"],
        execution_role=aws.environment.get("METAFLOW_ECS_FARGATE_EXECUTION_ROLE", "arn:aws:iam::1:role/execution"),
        region=aws.environment["AWS_DEFAULT_REGION"],
    )

    def make(name: str, **options: Any) -> FlowMachine:
        manifest = on_s3(recorded(name), name, max_workers=None)
        for step in manifest.graph.steps:
            for one in step.decorators:
                # For Fargate only, which takes not the others.
                one.attributes.pop("ephemeral_storage", None)
        return compile_flow(manifest, settings=settings, **options)

    return make


FLOWS = [*SHAPES, *(one for one in DECORATED if one != "decorated/pods")]


@pytest.mark.parametrize("flow", FLOWS)
def test_aws_finds_no_fault_in_a_definition(aws: StepFunctions, machine: Callable[..., FlowMachine], flow: str) -> None:
    made = machine(flow)
    definitions = [made.to_json(), *(json.dumps(one) for one in made.resources.state_machines.values())]
    states = aws.client("stepfunctions")
    for definition in definitions:
        found = states.validate_state_machine_definition(definition=definition, severity="WARNING")
        assert (found["result"], found["diagnostics"]) == ("OK", [])


def expressions(value: Any) -> Iterator[str]:
    """Yield the expressions of a state, those of states inside left out."""
    if isinstance(value, str) and value.startswith("{%"):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            if key not in ("Branches", "ItemProcessor"):
                yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


@pytest.mark.parametrize("flow", ["linear", "foreach", "switch", "nested_foreach"])
def test_aws_evaluates_the_expressions_of_states_as_the_local_engine_does(
    aws: StepFunctions, machine: Callable[..., FlowMachine], flow: str
) -> None:
    """Each in a state that only hands its value on, so that nothing is called."""
    given = {"at": "sfn-1/t-", "LongInput": "@"}
    context = {
        "Execution": {"Name": "1", "Id": "x"}, "State": {"RetryCount": 2}, "Map": {"Item": {"Value": 3, "Index": 3}},
    }  # fmt: skip
    variables = dict.fromkeys(("n", "n1", "n2", "n3"), 2)
    states = aws.client("stepfunctions")
    tried = 0
    for state in machine(flow).states.all_states():
        for expression in expressions(state.to_asl()):
            if "$states.result" in expression:
                continue
            bound = {"states": {"input": given, "context": context}, **variables}
            text = "(" + "".join(f"${name}:={json.dumps(value)};" for name, value in bound.items())
            expected = jsonata.Jsonata(f"{text}{expression[2:-2]})").evaluate(None)
            alone = {"Type": "Pass", "QueryLanguage": "JSONata", "Output": expression, "End": True}
            found = states.test_state(
                definition=json.dumps(alone), input=json.dumps(given), roleArn=aws.environment["METAFLOW_SFN_IAM_ROLE"],
                context=json.dumps(context), variables=json.dumps(variables),
            )  # fmt: skip
            assert found["status"] == "SUCCEEDED", (expression, found)
            assert json.loads(found["output"]) == json.loads(json.dumps(expected)), expression
            tried += 1
    assert tried > 3


@pytest.mark.parametrize(
    ("shape", "flow", "conf"), RUNS, ids=["-".join([one, *map(str, conf.values())]) for one, _, conf in RUNS]
)
def test_a_shape_in_a_real_account_produces_the_artifacts_of_a_local_run(
    aws: StepFunctions, flows: Path, shape: str, flow: str, conf: dict[str, object]
) -> None:
    name = f"contract-{shape}-{uuid.uuid4().hex[:8]}".replace("_", "-")
    file = flows / f"{shape}.py"
    aws.create(file, name=name)
    try:
        given = json.dumps({"Parameters": conf})
        states = aws.client("stepfunctions")
        started = states.start_execution(stateMachineArn=f"{states_arn(aws)}:stateMachine:{name}", input=given)
        run = Execution(aws, flow, started["executionArn"])
        run.wait(timeout=1800)
        found = run.artifacts()
    finally:
        aws.flow(file, "--name", name, "delete")
    arguments = [f"--{key}={value}" for key, value in conf.items()]
    assert found == local_artifacts(file, flow, *arguments)
