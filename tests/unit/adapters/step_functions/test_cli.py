"""The command group ``sfn``, as far as it needs no AWS."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.engines.aws.authority import Authority, Principal, Request
from tests.support.interpreter import python

pytestmark = pytest.mark.subprocess

FLOW = """
from metaflow import FlowSpec, Parameter, batch, kubernetes, project, schedule, step, trigger

{flow_decorators}
class ToolFlow(FlowSpec):
{parameters}
    {decorator}
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    ToolFlow()
"""


class Tool:
    """A user without AWS: no credentials, and nobody answers."""

    def __init__(self, folder: Path) -> None:
        self.flow = folder / "tool.py"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self.environment = {
            **inherited,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "METAFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9",
            "METAFLOW_USER": "ann",
            "METAFLOW_HOME": str(folder / "home"),
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": "s3://flows/metaflow",
            "METAFLOW_BATCH_JOB_QUEUE": "queue",
            "METAFLOW_BATCH_CONTAINER_IMAGE": "image:1",
            "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": "arn:aws:iam::1:role/jobs",
            "METAFLOW_SFN_IAM_ROLE": "arn:aws:iam::1:role/machines",
        }

    def write(self, decorator: str = "", flow_decorators: str = "", parameters: str = "") -> None:
        text = FLOW.format(decorator=decorator, flow_decorators=flow_decorators, parameters=parameters)
        self.flow.write_text(text)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [python(), self.flow.name, "--no-pylint", *arguments]
        env = {**self.environment, **environment}
        return subprocess.run(command, cwd=self.flow.parent, env=env, capture_output=True, text=True)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    made = Tool(tmp_path)
    made.write()
    return made


def test_only_json_needs_no_aws(tool: Tool) -> None:
    done = tool.run("sfn", "create", "--only-json")
    assert done.returncode == 0, done.stderr
    definition = json.loads(done.stdout)
    assert definition["StartAt"] == "start"
    assert "nothing was uploaded" in done.stderr
    assert tool.run("sfn", "create", "--only-json").stdout == done.stdout


def test_check_tells_the_cost_and_the_policies(tool: Tool) -> None:
    done = tool.run("sfn", "check", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["subject"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["state transitions of a run"]["amount"] == 2
    assert (rows["history of a run"]["amount"], rows["history of a run"]["limit"]) == (14, 25_000)
    printed = json.loads(tool.run("sfn", "check", "--policies").stdout)
    trust = printed.pop("trust")
    assert set(printed) == {"deployer", "state_machine", "events", "jobs"}
    assert set(trust) == set(printed) - {"deployer"}
    # Byte for byte, stars and all: IAM would take each of them.
    authority = Authority()
    for role, policy in printed.items():
        authority.add(role, [policy], trust.get(role))
    states = json.loads(tool.run("sfn", "create", "--only-json").stdout)["States"]
    definition = states["start"]["Arguments"]["JobDefinition"]
    submit = Request("batch:SubmitJob", f"arn:aws:batch:${{AWS::Region}}:1:job-definition/{definition}:7")
    assert Principal("machine", (printed["state_machine"],)).allows(submit)
    template = json.loads(tool.run("sfn", "check", "--cloudformation").stdout)
    assert template["AWSTemplateFormatVersion"] == "2010-09-09"


@pytest.mark.parametrize(
    ("changed", "arguments", "told"),
    [
        ({}, ["--name", "a b", "create", "--only-json"], "'a b' cannot be the name of a state machine"),
        ({}, ["--name", "x" * 81, "create", "--only-json"], "81 characters; a state machine may have 80"),
        ({"decorator": "@kubernetes"}, ["create", "--only-json"], "step start: it is marked for Kubernetes"),
        ({"flow_decorators": "@project(name='p')"}, ["--name", "x", "create"], "--name is not supported"),
        ({}, ["create", "--only-json", "--notify-on-error"], "no recipient is given"),
        ({}, ["create", "--only-json", "--aws-batch-tag", "x"], "'x' is no pair"),
        ({}, ["create", "--only-json", "--max-workers", "0"], "--max-workers is 0"),
        ({}, ["create", "--only-json", "--tag", "x" * 600], "--tag"),
        (
            {"flow_decorators": "@schedule(daily=True)", "parameters": "    a = Parameter('a', required=True)"},
            ["create", "--only-json"],
            "parameter 'a' has no default, yet the flow has a @schedule",
        ),
        ({}, ["resume", "sfn-x", "--redrive", "--step-to-rerun", "end"], "cannot run a step again"),
        ({}, ["create"], "Check the credentials, the region and the rights"),
        ({}, ["trigger"], "Check the credentials, the region and the rights"),
    ],
)
def test_bad_input_gets_one_clear_message(tool: Tool, changed: dict[str, str], arguments: list[str], told: str) -> None:
    tool.write(**changed)
    done = tool.run("sfn", *arguments, AWS_MAX_ATTEMPTS="1", AWS_DEFAULT_REGION="us-east-1")
    assert done.returncode != 0
    assert told in done.stdout + done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("unset", "told"),
    [
        ("METAFLOW_BATCH_JOB_QUEUE", "it has no queue"),
        ("METAFLOW_ECS_S3_ACCESS_IAM_ROLE", "@batch has no IAM role"),
        ("METAFLOW_DEFAULT_DATASTORE", "needs --datastore=s3"),
    ],
)
def test_a_setting_that_is_missing_is_named(tool: Tool, unset: str, told: str) -> None:
    del tool.environment[unset]
    done = tool.run("sfn", "create", "--only-json")
    assert done.returncode != 0
    assert told in done.stdout + done.stderr


def test_the_stock_name_is_ours_if_asked_for(tool: Tool) -> None:
    done = tool.run("step-functions", "create", "--only-json", METAFLOW_ADAPTERS_REPLACE_STOCK="1")
    assert json.loads(done.stdout)["QueryLanguage"] == "JSONata"
    for option in ("--compress-state-machine", "--use-distributed-map", "--log-execution-history"):
        assert tool.run("sfn", "create", "--only-json", option).returncode == 0
