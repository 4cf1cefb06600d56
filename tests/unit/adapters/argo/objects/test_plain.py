"""What the command line prints is what the live objects say, byte for byte, without Hera."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.recorded import GOLDEN
from tests.unit.adapters.argo.test_compile import DECORATED, EVENTS, SHAPES

from metaflow_adapters.argo import ArgoOptions, compile_flow
from metaflow_adapters.argo.options import ArgoOptionFields
from metaflow_orchestration.documents.manifest import Manifest

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *((shape, {}, {"gang": gang}) for shape in SHAPES for gang in ("job", "jobset")),
    *((name, deployment, options) for name, _, deployment, options in DECORATED),
]


@pytest.mark.parametrize(("flow", "deployment", "options"), CASES)
def test_plain_data_is_what_live_objects_become(
    flow: str, deployment: dict[str, Any], options: dict[str, Any], on_s3: Callable[..., Manifest]
) -> None:
    made = compile_flow(on_s3(flow, **deployment), namespace="flows", events=EVENTS, **options)
    plain = made.to_yaml()
    live = (made.template, made.cron)
    assert live[0].kind == "WorkflowTemplate"
    assert made.to_yaml() == plain


def test_a_change_of_a_live_object_is_in_the_plain_data(on_s3: Callable[..., Manifest]) -> None:
    made = compile_flow(on_s3("decorated/nightly"))
    before = made.to_dicts()
    made.template.labels["team"] = "ml"  # type: ignore[index]
    assert made.cron is not None
    made.cron.timezone = "Asia/Tokyo"
    template, cron = made.to_dicts()
    assert template["metadata"]["labels"]["team"] == "ml"
    assert cron["spec"]["timezone"] == "Asia/Tokyo"
    assert template["spec"] == before[0]["spec"]


def test_a_single_option_wins_over_the_options(on_s3: Callable[..., Manifest]) -> None:
    options = ArgoOptions(namespace="flows", priority=3)
    made = compile_flow(on_s3("linear"), options=options, priority=7).to_dicts()[0]
    assert (made["metadata"]["namespace"], made["spec"]["priority"]) == ("flows", 7)
    fields = {one.name: one.type for one in dataclasses.fields(ArgoOptions)}
    assert {name: str(one.__forward_arg__) for name, one in ArgoOptionFields.__annotations__.items()} == fields


PROGRAM = """
import sys
from metaflow_orchestration.documents.manifest import read_manifest
from metaflow_adapters.argo.compile import compile_flow
from metaflow_adapters.argo.runs.runs import ArgoRuns
sys.path.insert(0, sys.argv[1])
from tests.support.recorded import on_s3, read_recorded
made = compile_flow(on_s3(read_recorded("decorated/nightly"), "decorated/nightly"), namespace="flows")
assert [one["kind"] for one in made.to_dicts()] == ["WorkflowTemplate", "CronWorkflow"]
print(sorted(name for name in sys.modules if name.split(".")[0] in ("hera", "pydantic", "kubernetes")))
"""


@pytest.mark.subprocess
def test_what_a_flow_becomes_is_written_without_importing_hera() -> None:
    root = str(GOLDEN.parents[1])
    done = subprocess.run([sys.executable, "-c", PROGRAM, root], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
