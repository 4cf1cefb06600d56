"""What `create` reads of triggers, exit hooks and sensors, and what it refuses, each in one message."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.interpreter import python

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import EventTrigger, ExitHook, SensorKind

pytestmark = pytest.mark.subprocess

Compiled = Callable[..., Manifest]

FLOW = """
from datetime import timedelta
from metaflow import *
from metaflow import airflow_external_task_sensor, airflow_s3_key_sensor

{decorators}
class TriggerFlow(FlowSpec):
    alpha = Parameter("Alpha", default=1)
    beta = Parameter("beta", default=2)

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    TriggerFlow()
"""


def compile_source(tmp_path: Path, decorators: str, *top: str) -> Manifest:
    from tests.support.environment import environment_variable

    from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest

    path = tmp_path / "flow.py"
    path.write_text(FLOW.format(decorators=decorators))
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path)):
        return load_manifest(path, CompileOptions(python=python(), top_level=top), tmp_path / "cache")


def complaint(tmp_path: Path, decorators: str) -> str:
    path = tmp_path / "flow.py"
    path.write_text(FLOW.format(decorators=decorators))
    result = subprocess.run(
        [python(), path, "--no-pylint", "airflow", "create", str(tmp_path / "dag.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "dag.py").exists()
    return " ".join((result.stdout + result.stderr).split())


def test_a_single_event_maps_all_parameters_by_equal_names(tmp_path: Path) -> None:
    (found,) = compile_source(tmp_path, '@trigger(event="data.ready")').graph.triggers
    assert found == EventTrigger(event="data.ready", parameters=(("Alpha", "Alpha"), ("beta", "beta")))


def test_a_mapping_is_read_without_regard_to_case_and_names_its_parameters(tmp_path: Path) -> None:
    decorators = '@trigger(events=[{"name": "a", "parameters": {"ALPHA": "size"}}, "b"])'
    first, second = compile_source(tmp_path, decorators).graph.triggers
    assert first == EventTrigger(event="a", parameters=(("Alpha", "size"),), all_needed=True)
    assert second == EventTrigger(event="b")


def test_the_end_of_another_flow_is_named_with_project_and_branch(tmp_path: Path) -> None:
    plain = compile_source(tmp_path, '@trigger_on_finish(flow="Up")').graph.triggers
    assert plain == (EventTrigger(event="metaflow.Up.end", of_run=True),)
    decorators = '@project(name="p")\n@trigger_on_finish(flows=["Up", "q.prod.Other"])'
    own, other = compile_source(tmp_path, decorators, "--branch", "x").graph.triggers
    assert own.event == "metaflow.p.test.x.Up.end"
    assert other.event == "metaflow.q.prod.Other.end"


def test_exit_hooks_are_read_by_name(compiled: Compiled) -> None:
    assert compiled("events/hooked").graph.exit_hooks == (
        ExitHook(function="succeeded", on_success=True),
        ExitHook(function="broken", on_success=True),
        ExitHook(function="failed", on_success=False),
    )


def test_sensors_keep_all_their_options(tmp_path: Path) -> None:
    decorators = (
        '@airflow_external_task_sensor(external_dag_id="up", external_task_ids=["a"], name="wait_up", timeout=60,'
        ' execution_delta=timedelta(minutes=5), description="waits")\n'
        '@airflow_s3_key_sensor(bucket_key="s3://b/k", wildcard_match=True, aws_conn_id="aws")'
    )
    task, key = compile_source(tmp_path, decorators).graph.sensors
    assert (task.kind, task.name) == (SensorKind.EXTERNAL_TASK, "wait_up")
    assert task.arguments["execution_delta"] == 300
    assert (task.arguments["mode"], task.arguments["timeout"]) == ("reschedule", 60)
    assert (key.kind, key.name, key.arguments["wildcard_match"]) == (SensorKind.S3_KEY, "s3-key-sensor-0", True)


@pytest.mark.parametrize(
    ("decorators", "expected"),
    [
        ('@trigger(event="bad name")', "flow TriggerFlow: @trigger names the event 'bad name'."),
        (
            '@trigger(event={"name": "a", "parameters": {"gamma": "x"}})',
            "to 'gamma', which is no parameter of the flow. Parameters are: Alpha, beta.",
        ),
        ('@trigger(event={"name": "a", "parameters": {"beta": "x-y"}})', "maps the field 'x-y'"),
        (
            '@trigger(events=[{"name": "a", "parameters": ["beta"]}, {"name": "b", "parameters": ["BETA"]}])',
            "maps parameter 'beta' twice",
        ),
        ('@trigger(event="a")\n@trigger_on_finish(flow="B")', "has both @trigger and @trigger_on_finish"),
        ('@trigger(event="a", options={"reset_at": {"cron": "0 0 * * *"}})', "its trigger has the option 'reset_at'"),
        (
            '@trigger_on_finish(flow={"name": "B", "project": "p"})',
            "names a project or a branch only. Give both 'project' and 'project_branch'",
        ),
        (
            '@airflow_s3_key_sensor(bucket_key="s3://b/k", name="start")',
            "@airflow_s3_key_sensor(name='start') is no free task id",
        ),
    ],
)
def test_what_cannot_be_waited_for_is_refused_in_one_message(tmp_path: Path, decorators: str, expected: str) -> None:
    assert expected in complaint(tmp_path, decorators)
