"""What starts runs on Step Functions, and what a deployment makes, changes and leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.engines.aws.shared import ADMINISTRATOR
from tests.support.interpreter import python
from tests.support.object_store import BUCKET, credentials_of
from tests.support.step_functions import STATES, Execution, StepFunctions

from metaflow_adapters.step_functions import publish_event
from metaflow_adapters.step_functions.aws.client import Aws, AwsError
from metaflow_adapters.step_functions.machine import FlowMachine


def only_run(aws: StepFunctions, machine: str, flow: str, count: int = 1) -> Execution:
    """Wait until a machine has been started so many times; return the last run."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = aws.runs(machine, flow)
        if len(found) == count:
            return found[0]
        assert len(found) < count, f"{machine} was started {len(found)} times"
        time.sleep(0.5)
    raise AssertionError(f"{machine} was not started {count} times")


def settled(aws: StepFunctions, machine: str) -> None:
    """Wait until no execution of a machine runs."""
    end = time.monotonic() + 60
    arn = f"{STATES}:stateMachine:{machine}"
    states = aws.client("stepfunctions")
    while any(one["status"] == "RUNNING" for one in states.list_executions(stateMachineArn=arn)["executions"]):
        assert time.monotonic() < end
        time.sleep(0.2)


def test_an_event_starts_a_run_with_its_payload_as_parameters(step_functions: StepFunctions, flows: Path) -> None:
    aws = step_functions
    aws.create(flows / "events/on_event.py", name="on-event")
    payload = {"size": 2.5, "text": 'quoted "text" {% 1 %}', "table": {"a": [1, "ü"]}}
    event_id = publish_event("tests.OnEventFlow", payload, client=aws.client("events"))
    run = only_run(aws, "on-event", "OnEventFlow")
    run.wait()
    found = run.artifacts()["start"][((), ())]
    assert found["seen"] == (2.5, 'quoted "text" {% 1 %}', {"a": [1, "ü"]}, 5)
    assert event_id in [str(one) for one in found["event"]]
    # Started by hand, it has no event.
    other = aws.start("on-event", "OnEventFlow", {"Parameters": {"alpha": 1}})
    other.wait()
    assert other.artifacts()["start"][((), ())]["event"] is None


@pytest.mark.extended
def test_a_flow_that_waits_for_two_events_runs_once_for_each_pair(step_functions: StepFunctions, flows: Path) -> None:
    aws, events = step_functions, step_functions.client("events")
    aws.create(flows / "events/on_both.py", name="on-both")
    publish_event("tests.one", {"first": "old"}, client=events)
    settled(aws, "on-both-events")
    # A newer one takes the place of one that was not used yet.
    publish_event("tests.one", {"first": "new"}, client=events)
    settled(aws, "on-both-events")
    assert aws.runs("on-both", "OnBothFlow") == []
    publish_event("tests.two", {"b": "2"}, client=events)
    run = only_run(aws, "on-both", "OnBothFlow")
    settled(aws, "on-both-events")
    run.wait()
    found = run.artifacts()["start"][((), ())]
    assert (found["seen"], found["names"]) == (("new", "2"), ["tests.one", "tests.two"])
    # Both are used up; two at once make one run.
    publish_event("tests.two", {"b": "3"}, client=events)
    publish_event("tests.one", {"first": "3"}, client=events)
    second = only_run(aws, "on-both", "OnBothFlow", 2)
    settled(aws, "on-both-events")
    second.wait()
    assert len(aws.runs("on-both", "OnBothFlow")) == 2
    assert {run.artifacts()["start"][((), ())]["seen"] for run in aws.runs("on-both", "OnBothFlow")} == {
        ("new", "2"),
        ("3", "3"),
    }


@pytest.mark.extended
def test_a_claim_of_events_that_s3_refuses_fails_the_gathering_and_a_redrive_starts_the_run(
    step_functions: StepFunctions, flows: Path
) -> None:
    aws, events = step_functions, step_functions.client("events")
    aws.create(flows / "events/on_both.py", name="refused-claim")
    machine = aws.principals("refused-claim").machine
    granted = aws.store.authority[machine].policies
    allowed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "states.amazonaws.com"}}
    trust = {"Version": "2012-10-17", "Statement": [allowed]}
    claims = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/*/claims/*"}
    aws.store.authority.add(machine, [*granted, {"Version": "2012-10-17", "Statement": [claims]}], trust)
    for event, payload in (("tests.one", {"first": "1"}), ("tests.two", {"b": "2"})):
        publish_event(event, payload, client=events)
        settled(aws, "refused-claim-events")
    gathering, *_ = aws.runs("refused-claim-events", "OnBothFlow")
    gathering.wait(expect="FAILED")
    assert aws.runs("refused-claim", "OnBothFlow") == []
    aws.store.authority.add(machine, granted, trust)
    aws.client("stepfunctions").redrive_execution(executionArn=gathering.arn)
    run = only_run(aws, "refused-claim", "OnBothFlow")
    run.wait()
    assert run.artifacts()["start"][((), ())]["seen"] == ("1", "2")


@pytest.mark.extended
def test_a_flow_follows_the_runs_of_another_that_succeed(step_functions: StepFunctions, flows: Path) -> None:
    aws = step_functions
    aws.create(flows / "events/upstream.py")
    aws.create(flows / "events/on_finish.py")
    upstream = aws.start("UpstreamFlow", "UpstreamFlow", {"Parameters": {"value": 4}})
    upstream.wait()
    run = only_run(aws, "OnFinishFlow", "OnFinishFlow")
    run.wait()
    found = run.artifacts()
    assert found["start"][((), ())]["upstream"] == f"UpstreamFlow/{upstream.run_id}"
    assert found["start"][((), ())]["result"] == 40
    assert found["end"][((), ())]["still"] == f"UpstreamFlow/{upstream.run_id}"


def test_a_schedule_keeps_its_timezone_and_goes_with_its_decorator(
    step_functions: StepFunctions, flows: Path, tmp_path: Path
) -> None:
    aws, scheduler = step_functions, step_functions.client("scheduler")
    flow = tmp_path / "nightly.py"
    source = (flows / "argo/nightly.py").read_text()
    flow.write_text(source)
    aws.create(flow, name="nightly")
    found = scheduler.get_schedule(Name="nightly")
    assert (found["ScheduleExpression"], found["ScheduleExpressionTimezone"]) == ("cron(* * * * ? *)", "Europe/Berlin")
    # moto fires no schedules: this is what AWS does at its time.
    target = found["Target"]
    scheduled = aws.client("stepfunctions", target["RoleArn"])
    answer = scheduled.start_execution(stateMachineArn=target["Arn"], input=target["Input"])
    Execution(aws, "NightlyFlow", answer["executionArn"]).wait()
    flow.write_text(source.replace('@schedule(cron="* * * * ? *", timezone="Europe/Berlin")\n', ""))
    aws.create(flow, name="nightly")
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name="nightly")


def everything(aws: StepFunctions) -> dict[str, Any]:
    """Whatever a deployment may have made."""
    definitions = aws.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    return {
        "machines": sorted(one["name"] for one in aws.client("stepfunctions").list_state_machines()["stateMachines"]),
        "definitions": sorted(one["jobDefinitionName"] for one in definitions),
        "rules": sorted(one["Name"] for one in aws.client("events").list_rules()["Rules"]),
        "schedules": sorted(one["Name"] for one in aws.client("scheduler").list_schedules()["Schedules"]),
        "secrets": sorted(one["Name"] for one in aws.client("secretsmanager").list_secrets()["SecretList"]),
    }


def test_delete_removes_what_create_has_made_and_nothing_else(
    step_functions: StepFunctions, flows: Path, tmp_path: Path
) -> None:
    aws = step_functions
    # A secret that somebody else has made, of a name that `create` would give.
    aws.client("secretsmanager").create_secret(Name="full-event-0-notify", SecretString="theirs")
    before = everything(aws)
    flow = tmp_path / "full.py"
    source = (flows / "events/on_both.py").read_text()
    flow.write_text(source)
    options = ("--notify-on-error", "--notify-slack-webhook-url", "https://example.org/hook")
    aws.create(flow, *options, name="full")
    # A name that begins the same is another's.
    aws.create(flows / "linear.py", name="full-event-0")
    made = everything(aws)
    assert {"full", "full-events", "full-after"} <= set(made["machines"])
    assert {"full-event-0", "full-event-1", "full-after"} <= set(made["rules"])
    assert "full" in made["schedules"]
    assert "full-notify" in made["secrets"]
    # Another version has other job definitions. Those of the version before stay, for executions that have just begun,
    # and go with the next version.
    flow.write_text(source.replace('"b")', '"c")'))
    aws.create(flow, *options, name="full")
    both = everything(aws)["definitions"]
    assert set(made["definitions"]) < set(both)
    flow.write_text(source.replace('"b")', '"d")'))
    aws.create(flow, *options, name="full")
    assert len(everything(aws)["definitions"]) == len(both)
    assert not set(made["definitions"]) <= set(everything(aws)["definitions"])
    aws.flow(flow, "--name", "full", "delete")
    aws.flow(flows / "linear.py", "--name", "full-event-0", "delete")
    assert everything(aws) == before


def compiled(aws: StepFunctions, flow: Path, name: str) -> FlowMachine:
    """Compile a flow by the library, in a process of its own, as the settings of Metaflow are read once."""
    script = (
        "import pickle, sys; from metaflow_adapters.step_functions import compile_flow; "
        "sys.stdout.buffer.write(pickle.dumps(compile_flow(sys.argv[1], name=sys.argv[2])))"
    )
    environment = {
        **os.environ,
        **aws.environment,
        **aws.principals(name).environment,
        # What stores the code package; its deployer has rights only once it is compiled.
        **credentials_of(ADMINISTRATOR),
        "XDG_CACHE_HOME": str(flow.parent / "cache"),
    }
    done = subprocess.run([sys.executable, "-c", script, str(flow), name], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    import pickle

    made: FlowMachine = pickle.loads(done.stdout)
    return made


@pytest.mark.extended
def test_a_deployment_that_stops_half_way_leaves_the_old_one_working(
    step_functions: StepFunctions, flows: Path, tmp_path: Path
) -> None:
    aws = step_functions
    source = (flows / "events/on_event.py").read_text()
    versions = []
    for number, text in enumerate((source, source.replace("default=5", "default=6"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "flow.py").write_text(text)
        versions.append(compiled(aws, folder / "flow.py", "fragile"))
    who = aws.principals("fragile")

    def client(service: str) -> Any:
        """A client of the deployer, who may do what is printed for the flow."""
        return aws.client(service, who.deployer)

    aws.allow(who, {**versions[0].resources.policies, "trust": versions[0].trust_policies()})
    versions[0].deploy(Aws(client))
    for allowed in range(1, 80):
        left = [allowed]

        def limited(service: str, left: list[int] = left) -> Any:
            return Limited(client(service), left)

        try:
            versions[1].deploy(Aws(limited))
        except AwsError:
            definition = aws.definition("fragile")
            assert definition in (versions[0].definition, versions[1].definition)
            active = aws.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
            names = {one["jobDefinitionName"] for one in active}
            used = {
                state["Arguments"]["JobDefinition"]
                for state in definition["States"].values()
                if "JobDefinition" in state.get("Arguments", {})
            }
            assert used <= names
        else:
            break
    else:
        raise AssertionError("80 calls were not enough")
    assert allowed > 5
    assert versions[1].diff(Aws(client)) == ""
    assert "default" not in versions[0].diff(Aws(client))
    assert versions[0].diff(Aws(client)) != ""
    run_id = versions[1].trigger(Aws(client), alpha=0.5)
    run = Execution(aws, "OnEventFlow", f"{STATES}:execution:fragile:{run_id.removeprefix('sfn-')}")
    run.wait()
    assert run.artifacts()["start"][((), ())]["seen"] == (0.5, "plain", {}, 6)


class Limited:
    """A client that fails after so many calls, as a network would."""

    def __init__(self, client: Any, left: list[int]) -> None:
        self._client, self._left = client, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name in ("exceptions", "get_paginator"):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            from botocore.exceptions import EndpointConnectionError

            self._left[0] -= 1
            if self._left[0] < 0:
                raise EndpointConnectionError(endpoint_url="https://aws")
            return found(*arguments, **named)

        return call


def test_a_machine_of_metaflows_own_deployer_is_replaced_by_its_owner(
    step_functions: StepFunctions, flows: Path, tmp_path: Path
) -> None:
    aws = step_functions
    flow = tmp_path / "nightly.py"
    flow.write_text((flows / "argo/nightly.py").read_text().replace(', timezone="Europe/Berlin"', ""))

    def stock(*arguments: str) -> None:
        done = subprocess.run(
            [python(), flow.name, "--no-pylint", "step-functions", "--name", "stock", *arguments],
            cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **aws.environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    stock("create")
    old = aws.definition("stock")["States"]["start"]["Parameters"]["Parameters"]["metaflow.production_token"]
    assert "stock" in [one["Name"] for one in aws.client("events").list_rules()["Rules"]]
    stranger = {"METAFLOW_USER": "mallory", "METAFLOW_HOME": str(tmp_path / "mallory")}
    refused = aws.flow(flow, "--name", "stock", "create", check=False, **stranger)
    assert "deployed to AWS Step Functions by the user" in refused.stdout + refused.stderr
    aws.create(flow, name="stock")
    new = aws.definition("stock")["States"]["start"]["Arguments"]["Parameters"]["metaflow.production_token"]
    assert new == old
    # Its schedule would start the flow a second time.
    assert "stock" not in [one["Name"] for one in aws.client("events").list_rules()["Rules"]]
    assert aws.client("scheduler").get_schedule(Name="stock")


@pytest.fixture
def foreign(step_functions: StepFunctions) -> Callable[[str], None]:
    def make(name: str) -> None:
        definition = {"StartAt": "a", "States": {"a": {"Type": "Succeed"}}}
        role = step_functions.environment["METAFLOW_SFN_IAM_ROLE"]
        states = step_functions.client("stepfunctions")
        states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)

    return make


def test_a_machine_that_holds_no_flow_or_another_is_left_alone(
    step_functions: StepFunctions, flows: Path, foreign: Callable[[str], None]
) -> None:
    aws = step_functions
    foreign("theirs")
    told = aws.flow(flows / "linear.py", "--name", "theirs", "create", check=False)
    assert "was not made from a Metaflow flow" in told.stdout + told.stderr
    aws.create(flows / "linear.py", name="ours")
    told = aws.flow(flows / "switch.py", "--name", "ours", "create", check=False)
    assert "holds another flow, 'LinearFlow'" in told.stdout + told.stderr
