"""The command group ``argo``, as far as it needs no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml
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
    """A user without a cluster."""

    def __init__(self, folder: Path, url: str) -> None:
        self.flow = folder / "tool.py"
        self.environment = {
            **os.environ,
            "METAFLOW_USER": "ann",
            "METAFLOW_HOME": str(folder / "home"),
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": "s3://flows/metaflow",
            "METAFLOW_S3_ENDPOINT_URL": url,
            "METAFLOW_KUBERNETES_CONTAINER_IMAGE": "image:1",
            "KUBECONFIG": str(folder / "none"),
        }

    def write(self, decorator: str = "", flow_decorators: str = "", parameters: str = "") -> None:
        text = FLOW.format(decorator=decorator, flow_decorators=flow_decorators, parameters=parameters)
        self.flow.write_text(text)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [python(), self.flow.name, "--no-pylint", *arguments]
        env = {**self.environment, **environment}
        return subprocess.run(command, cwd=self.flow.parent, env=env, capture_output=True, text=True)


@pytest.fixture
def tool(tmp_path: Path, store: object) -> Tool:
    return Tool(tmp_path, store.url)  # type: ignore[attr-defined]


def test_yaml_is_printed_without_a_cluster_and_secrets_are_not_in_it(tool: Tool) -> None:
    tool.write()
    done = tool.run(
        "argo", "create", "--only-yaml", "--notify-on-error", "--notify-slack-webhook-url", "https://hush",
        "--workflow-priority", "3", "--workflow-timeout", "60", "--max-workers", "7", "--tag", "nightly",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (template,) = yaml.safe_load_all(done.stdout[done.stdout.index("apiVersion:") :])
    spec = template["spec"]
    assert (spec["priority"], spec["activeDeadlineSeconds"], spec["parallelism"]) == (3, 60, 7)
    assert "hush" not in done.stdout
    assert "the Kubernetes secret toolflow-notify is not in here" in done.stderr


def test_options_of_argo_stand_in_the_objects(tool: Tool) -> None:
    tool.write(flow_decorators="@schedule(daily=True)")
    done = tool.run(
        "argo", "create", "--only-json", "--ttl-seconds", "9", "--pod-gc", "OnPodSuccess",
        "--concurrency-policy", "Forbid", "--successful-runs-kept", "2", "--failed-runs-kept", "4",
        "--workflow-title", "a *title*", "--workflow-description", "what it does",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    template, cron = json.loads(done.stdout[done.stdout.index("[") :])
    assert template["spec"]["ttlStrategy"] == {"secondsAfterCompletion": 9}
    assert template["spec"]["podGC"] == {"strategy": "OnPodSuccess"}
    notes = template["metadata"]["annotations"]
    assert notes["workflows.argoproj.io/title"] == "a *title*"
    assert notes["workflows.argoproj.io/description"] == "what it does"
    kept = cron["spec"]["successfulJobsHistoryLimit"], cron["spec"]["failedJobsHistoryLimit"]
    assert (cron["spec"]["concurrencyPolicy"], kept) == ("Forbid", (2, 4))


def test_the_group_stands_in_the_place_of_metaflows_own_if_asked(tool: Tool) -> None:
    tool.write()
    assert "list-runs" in tool.run("argo-workflows", "--help", METAFLOW_ADAPTERS_REPLACE_STOCK="1").stdout
    assert "list-runs" not in tool.run("argo-workflows", "--help").stdout


MUTATOR = """
from metaflow import StepMutator

class sized(StepMutator):
    def init(self, **sizes):
        self.sizes = sizes

    def mutate(self, mutable_step):
        for name, _, _, attributes in mutable_step.decorator_specs:
            if name == "kubernetes":
                mutable_step.add_decorator(
                    deco_type=name, deco_kwargs={**attributes, **self.sizes}, duplicates=mutable_step.OVERRIDE
                )
"""


def test_what_a_mutator_makes_of_the_pods_that_the_deployment_asks_for_counts(tool: Tool) -> None:
    # As Metaflow's own test_argo_compilation.py: @kubernetes is added after the flow's mutators were first asked.
    tool.write(flow_decorators=MUTATOR, decorator="@sized(cpu=2, memory=8192)")
    done = tool.run("argo", "create", "--only-json")
    assert done.returncode == 0, done.stdout + done.stderr
    (template,) = json.loads(done.stdout[done.stdout.index("[") :])
    asked = {
        one["metadata"]["annotations"]["metaflow/step_name"]: one["container"]["resources"]["requests"]
        for one in template["spec"]["templates"]
        if "container" in one
    }
    assert (asked["start"]["cpu"], asked["start"]["memory"]) == ("2", "8192M")
    assert (asked["end"]["cpu"], asked["end"]["memory"]) == ("1", "4096M")


@pytest.mark.parametrize(
    ("source", "arguments", "told"),
    [
        ({"decorator": "@batch"}, (), "step start: it is marked for AWS Batch"),
        ({"decorator": "@kubernetes(namespace='other')"}, (), "step start: it asks for the namespace 'other'"),
        ({"flow_decorators": "@trigger(event='a')"}, (), "METAFLOW_ARGO_EVENTS_EVENT is not set"),
        ({"flow_decorators": "@schedule(cron='0 0 L * ? *')"}, (), "uses L or #"),
        (
            {"flow_decorators": "@schedule(daily=True)", "parameters": "    a = Parameter('a', required=True)"},
            (),
            "A scheduled run has nobody to ask",
        ),
        ({"parameters": "    json = Parameter('json')"}, (), "has a name that is reserved"),
        ({"flow_decorators": "@project(name='p')"}, ("--name", "x"), "--name is not supported for @projects"),
        ({}, ("--name", "Bad_Name"), "cannot be the name of a workflow template"),
        ({}, ("--name", "a" * 46), "a workflow template may have 45"),
    ],
)
def test_what_argo_cannot_honour_is_told_before_anything_is_made(
    tool: Tool, source: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    tool.write(**source)
    done = tool.run("argo", *arguments, "create", "--only-yaml")
    assert done.returncode != 0
    assert told in done.stdout + done.stderr


def test_a_cluster_that_cannot_be_reached_is_told(tool: Tool) -> None:
    tool.write()
    done = tool.run("argo", "status", "argo-x")
    assert done.returncode != 0
    assert "the Kubernetes cluster cannot be reached" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_object_store_that_cannot_be_reached_is_reported_within_a_minute(tool: Tool) -> None:
    tool.write()
    started = time.monotonic()
    done = tool.run("argo", "create", "--only-json", METAFLOW_S3_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode != 0
    assert "the object store http://127.0.0.1:9 cannot be reached (Connection refused)" in done.stdout + done.stderr
    assert time.monotonic() - started < 60


def test_without_the_extra_only_the_group_itself_fails_and_says_how_to_get_it(tool: Tool, tmp_path: Path) -> None:
    tool.write()
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked/sitecustomize.py").write_text("import sys; sys.modules['hera'] = sys.modules['yaml'] = None")
    without = {"PYTHONPATH": str(tmp_path / "blocked")}
    assert "airflow" in tool.run("--help", **without).stdout
    done = tool.run("argo", "create", "--only-yaml", **without)
    assert done.returncode != 0
    assert 'pip install "airflow-provider-metaflow[argo]"' in done.stdout + done.stderr
