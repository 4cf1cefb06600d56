"""What `sfn create` asks AWS before it compiles: who owns the deployment, and what its queues run on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.engines.aws.quotas import exceeded
from tests.support.aws_account import QUEUE, SETTINGS, Account
from tests.support.object_store import batch_queue

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.aws import Aws, AwsError, start_parameters
from metaflow_adapters.step_functions.create import MachineStore, batch_tags, platforms
from metaflow_orchestration.exceptions import InvalidOptionError

There = Callable[..., FlowMachine]


def stock(name: str, flow: str) -> str:
    """A definition as Metaflow's own deployer makes it."""
    said = {"metaflow.owner": "bob", "metaflow.flow_name": flow, "metaflow.production_token": "old"}
    start = {"Type": "Task", "Resource": "x", "Parameters": {"Parameters": said}, "End": True}
    return json.dumps({"StartAt": name, "States": {name: start}})


def test_owner_and_token_are_read_from_the_deployed_machine(account: Account, there: There) -> None:
    made = there("linear")
    account.grant(made)
    store = MachineStore(account.aws(), "linear", "LinearFlow")
    assert store.load() == (None, None)
    account.deploy(made)
    assert store.load() == ("ann", "token-1")
    with pytest.raises(InvalidOptionError, match="holds another flow, 'LinearFlow'"):
        MachineStore(account.aws(), "linear", "OtherFlow").load()


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        (stock("start", "F"), {"metaflow.owner": "bob", "metaflow.flow_name": "F", "metaflow.production_token": "old"}),
        ('{"StartAt": "a", "States": {"a": {"Type": "Succeed"}}}', None),
        ('{"StartAt": "a", "States": {"a": {"Type": "Task", "Arguments": "{% x %}"}}}', None),
        ('{"StartAt": "a", "States": {"a": {"Type": "Task", "Parameters": {"Parameters": {"b": 1}}}}}', None),
    ],
)
def test_a_machine_says_of_its_flow_what_its_first_state_says(definition: str, found: object) -> None:
    assert start_parameters({"definition": definition}) == found


def test_a_machine_that_holds_no_flow_is_left_alone(account: Account, there: There) -> None:
    account.grant(there("linear"))
    definition = '{"StartAt": "a", "States": {"a": {"Type": "Succeed"}}}'
    states = account.client("stepfunctions")
    states.create_state_machine(name="linear", definition=definition, roleArn=str(SETTINGS.machine_role))
    with pytest.raises(InvalidOptionError, match="'linear' that was not made from a Metaflow flow"):
        MachineStore(account.aws(), "linear", "LinearFlow").load()


def test_the_platform_of_each_queue_is_asked_unless_it_is_given(account: Account, there: There) -> None:
    made = there("linear")
    account.grant(made)
    batch_queue(account, "FARGATE")
    manifest = made.manifest
    aws = account.aws()
    for queue, platform in ((QUEUE, "EC2"), ("queue-fargate", "FARGATE")):
        manifest.remote["compute_defaults"]["batch"] = {
            **manifest.remote["compute_defaults"]["batch"], "queue": queue,
        }  # fmt: skip
        assert platforms(manifest, None, aws) == {queue: platform}
        assert platforms(manifest, "fargate", None) == {queue: "FARGATE"}
        assert platforms(manifest, None, None) == {}
    with pytest.raises(AwsError, match="no job queue 'absent'"):
        aws.platform_of("absent")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["x"], "'x' is no pair"),
        (["=x"], "is no pair"),
        (["a=" + "x" * 257], "a value 256"),
        (["k" * 129 + "=x"], "128 characters at most"),
        # Beyond the first character, too.
        (["team=a,b"], "',' is not allowed in a tag"),
        (["te*am=a"], r"'\*' is not allowed"),
        (["AWS:x=y"], "kept for AWS"),
        ([f"k{number}=x" for number in range(45)], "45 tags"),
    ],
    ids=range(8),
)
def test_a_tag_that_aws_refuses_is_refused_first(given: list[str], told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        batch_tags("F", given)


def test_tags_may_hold_what_aws_takes() -> None:
    given = ["a=b=c", "d=", "größe=ü 1", "k=" + "x" * 256]
    assert batch_tags("F", given) == {"a": "b=c", "d": "", "größe": "ü 1", "k": "x" * 256}
    tags = {f"k{number}": "x" for number in range(50)}
    assert exceeded("batch", "SubmitJob", {"tags": tags}) is None
    assert exceeded("batch", "SubmitJob", {"tags": {**tags, "one": "more"}}) == "there are 51 tags; AWS takes 50"


def test_clients_are_made_by_metaflows_configuration_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "metaflow.plugins.aws.aws_client.get_aws_client", lambda name: made.append(name) or f"client of {name}"
    )
    aws = Aws()
    names = ("states", "batch", "events", "scheduler", "s3", "logs", "secrets")
    found = [getattr(aws, name) for name in names for _ in range(2)]
    services = ["stepfunctions", "batch", "events", "scheduler", "s3", "logs", "secretsmanager"]
    assert made == services
    assert found == [f"client of {name}" for name in services for _ in range(2)]
