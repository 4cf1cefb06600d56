"""What `sfn create` asks AWS before it compiles: who owns the deployment, and what its queues run on."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest
from tests.engines.aws.quotas import exceeded
from tests.support.aws_account import QUEUE, SETTINGS, Account, Job
from tests.support.object_store import batch_queue

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.aws.client import Aws, AwsError, start_parameters
from metaflow_adapters.step_functions.deploy.create import (
    MachineStore,
    batch_tags,
    platforms,
    refuse_kubernetes,
    shares,
)
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError

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


@pytest.fixture
def fair(account: Account) -> str:
    """A queue with a scheduling policy."""
    batch = account.client("batch")
    policy = batch.create_scheduling_policy(name="fair")["arn"]
    order = batch.describe_job_queues(jobQueues=[QUEUE])["jobQueues"][0]["computeEnvironmentOrder"]
    batch.create_job_queue(
        jobQueueName="queue-fair", state="ENABLED", priority=1, computeEnvironmentOrder=order,
        schedulingPolicyArn=policy,
    )  # fmt: skip
    return "queue-fair"


def on_queue(queue: str, manifest: Manifest) -> Manifest:
    defaults = manifest.remote["compute_defaults"]
    remote = {**manifest.remote, "compute_defaults": {**defaults, "batch": {**defaults["batch"], "queue": queue}}}
    return msgspec.structs.replace(manifest, remote=remote)


def test_jobs_in_a_fair_share_queue_have_a_share(account: Account, there: There, fair: str) -> None:
    made = there("linear")
    account.grant(made)
    manifest, plain = on_queue(fair, made.manifest), on_queue(QUEUE, made.manifest)
    aws = account.aws()
    assert shares(manifest, None, aws) == {fair: "metaflow"}
    assert shares(manifest, "team1", aws) == {fair: "team1"}
    assert shares(plain, None, aws) == {}
    assert (shares(plain, "team1", None), shares(plain, None, None)) == ("team1", None)
    with pytest.raises(InvalidOptionError, match="none of its queues has a scheduling policy"):
        shares(plain, "team1", aws)
    with pytest.raises(InvalidOptionError, match="letters and digits only"):
        shares(manifest, "team-1", aws)
    queues = [one["jobQueues"] for one in account.enforcement.given if "jobQueues" in one]
    # Each queue is asked about once.
    assert queues == [[fair], [QUEUE]]


@pytest.mark.parametrize("flow", ["linear", "foreach"])
def test_a_flow_runs_in_a_fair_share_queue(account: Account, there: There, fair: str, flow: str) -> None:
    def task(job: Job) -> None:
        if job.place is not None and job.place.step in {one.name for one in made.manifest.graph.steps
                                                        if one.foreach_artifact}:  # fmt: skip
            job.tell(2)

    account.task = task
    made = there(flow, queue=fair, share_identifier={fair: "team1"})
    # The account refuses jobs without a share there, and jobs with one anywhere else.
    assert account.run(made)["status"] == "SUCCEEDED"
    assert {one["shareIdentifier"] for one in account.enforcement.given if "jobQueue" in one} == {"team1"}
    assert {one["schedulingPriority"] for one in made.resources.job_definitions} == {0}


def test_every_job_says_which_task_of_which_run_it_is(account: Account, there: There) -> None:
    made = there("linear")
    found = account.run(made)
    run = f"sfn-{found['name']}"
    submitted = [one for one in account.enforcement.given if "jobDefinition" in one and "jobName" in one]
    parameters = [{key: one["parameters"][key] for key in SEARCHED} for one in submitted]
    assert parameters == [
        dict(zip(SEARCHED, (run, step, f"LinearFlow/{run}/{step}/t-{step}"), strict=True))
        for step in ("start", "middle", "end")
    ]
    definitions = account.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    assert {one["parameters"]["metaflow.flow_name"] for one in definitions} == {"LinearFlow"}
    assert all(one["propagateTags"] for one in made.resources.job_definitions)


SEARCHED = ("metaflow.run_id", "metaflow.step_name", "metaflow.pathspec")


def test_a_job_inside_a_foreach_has_the_pathspec_of_its_task(account: Account, there: There) -> None:
    made = there("nested_foreach", distributed=False)
    account.task = lambda job: job.tell(2) if job.place is not None and job.place.step in foreaches else None
    foreaches = {one.name for one in made.manifest.graph.steps if one.foreach_artifact}
    found = account.run(made)
    given = [one["parameters"] for one in account.enforcement.given if "jobDefinition" in one and "jobName" in one]
    steps = {one.name: one for one in made.manifest.graph.steps}
    for parameters in given:
        flow, run, step, *task = parameters["metaflow.pathspec"].split("/")
        assert (flow, run, step) == (made.manifest.graph.name, f"sfn-{found['name']}", parameters["metaflow.step_name"])
        # An array of jobs is of many tasks.
        for one in task:
            assert one.count("-") == one.count(step) + len(steps[step].foreach_path), parameters
    assert {one["metaflow.step_name"] for one in given} <= set(steps)
    assert any("-1-" in one["metaflow.pathspec"] or one["metaflow.pathspec"].endswith("-1") for one in given)


def test_a_step_that_asks_for_a_pod_is_refused_and_no_other() -> None:
    def node(name: str, *decorators: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, decorators=[SimpleNamespace(name=one) for one in decorators])

    refuse_kubernetes("F", [node("start", "retry", "batch"), node("train", "resources", "timeout"), node("end")])
    with pytest.raises(UnsupportedFeatureError, match="train"):
        refuse_kubernetes("F", [node("start", "batch"), node("train", "retry", "kubernetes"), node("end")])
