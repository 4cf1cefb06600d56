"""The JSON document that a task writes beside its artifacts."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.interpreter import python

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_summary import (
    MAX_VALUE_BYTES,
    describe_error,
    json_texts,
)
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.run.commands import StepCall, parameters_path


class Raising(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


def test_values_that_json_can_hold_are_kept_as_json_holds_them() -> None:
    values = {
        "text": "é\n",
        "number": 3,
        "pair": (1, 2.5),
        "nothing": None,
        "ordered": collections.OrderedDict(b=1, a=[True]),
    }
    assert {name: json.loads(text) for name, text in json_texts(values).items()} == {
        "text": "é\n",
        "number": 3,
        "pair": [1, 2.5],
        "nothing": None,
        "ordered": {"b": 1, "a": [True]},
    }


def test_values_that_json_cannot_hold_are_left_out() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    values = {
        "object": object(),
        "bytes": b"x",
        "set": {1},
        "not_a_number": float("nan"),
        "within": [{"x": object()}],
        "keys": {(1, 2): 3},
        "cyclic": cyclic,
        "raising": Raising(x=1),
    }
    assert json_texts(values) == {}


def test_a_large_value_is_left_out_without_being_walked_through() -> None:
    shared: list[Any] = [1] * 10
    for _ in range(8):
        shared = [shared] * 10  # 10^9 numbers, if written out
    values = {
        "text": "x" * 200_000_000,
        "many": list(range(2_000_000)),
        "shared": shared,
        "integer": 1 << 10_000_000,
        "small": 1,
    }
    before = time.process_time()
    assert json_texts(values) == {"small": "1"}
    assert time.process_time() - before < 1


def test_the_limit_counts_the_text_as_it_is_written() -> None:
    assert "x" in json_texts({"x": "a" * (MAX_VALUE_BYTES - 2)})
    assert "x" not in json_texts({"x": "a" * (MAX_VALUE_BYTES - 1)})
    # An escape takes six bytes.
    assert "x" not in json_texts({"x": "\x00" * (MAX_VALUE_BYTES // 4)})


class MutedError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_ended_a_task_is_kept_by_type_and_message_whatever_it_does() -> None:
    assert describe_error(ValueError("no rows")) == {"type": "ValueError", "message": "no rows"}
    assert describe_error(MutedError()) == {"type": f"{__name__}.MutedError", "message": ""}
    assert len(describe_error(ValueError("x" * 10_000))["message"]) == 2000


@pytest.fixture(scope="module")
def summaries(compiled: Callable[..., Manifest], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Summaries of a run of the flow with parameters, by step; and that of a clone of its start task."""
    manifest = compiled("files/parameters")
    run, values = "airflow-summaries", {"number": "7", "required": "x"}
    lines: list[str] = []
    root = Path(manifest.command.datastore_root) / manifest.graph.name
    with LocalCompute(
        manifest=manifest,
        code=manifest.code,
        cache=tmp_path_factory.mktemp("code"),
        python=sys.executable,
        warm=False,
        idle_seconds=1.0,
        links={},
        variables={},
        on_line=lambda _, text: lines.append(text),
    ) as compute:

        def call(step: str, run_id: str, source: str, **more: Any) -> StepCall:
            given = manifest.graph.step(step)
            return StepCall(
                step=given, run_id=run_id, task_id="t", attempt=0, max_user_retries=0, inputs=(source,), **more
            )

        compute.run(call("start", run, parameters_path(run)), values)
        compute.run(call("end", run, f"{run}/start/t"))
        clone = call("start", "airflow-clone", parameters_path("airflow-clone"), clone_of=f"{run}/start/t")
        cloned = compute.run(clone, values)

    def summary(run_id: str, step: str) -> Any:
        return json.loads((root / run_id / step / "t/0.orchestrator_summary.json").read_text())

    found = {step: summary(run, step) for step in ("start", "end")}
    return {**found, "clone": summary("airflow-clone", "start"), "cloned": cloned}


@pytest.mark.subprocess
def test_the_start_task_names_the_parameters_of_the_run_and_their_values(summaries: dict[str, Any]) -> None:
    start = summaries["start"]
    assert start["ok"]
    assert "number" in start["parameters"]
    assert start["artifacts"]["number"]["value"] == 7
    assert start["artifacts"]["number"]["type"] == "int"
    assert start["artifacts"]["number"]["size"] > 0


@pytest.mark.subprocess
def test_artifacts_that_a_step_only_passes_on_have_their_values_in_its_summary(summaries: dict[str, Any]) -> None:
    assert summaries["end"]["artifacts"]["number"]["value"] == 7
    assert "parameters" not in summaries["end"]


@pytest.mark.subprocess
def test_a_clone_has_the_summary_of_its_origin(summaries: dict[str, Any]) -> None:
    assert summaries["clone"]["artifacts"] == summaries["start"]["artifacts"]
    assert summaries["cloned"]["task_id"] == "t"
    assert summaries["cloned"]["next"] == ["end"]


BROKEN = """
from metaflow import FlowSpec, step

class BrokenFlow(FlowSpec):
    @step
    def start(self):
        self.rows = [1, 2]
        if self.rows:
            raise ValueError(f"no letters in {self.rows}")
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    BrokenFlow()
"""


@pytest.mark.subprocess
def test_a_task_that_failed_says_in_its_summary_what_ended_it(tmp_path: Path) -> None:
    (tmp_path / ".metaflow").mkdir()
    (tmp_path / "broken.py").write_text(BROKEN)
    environment = {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path), "METAFLOW_USER": "ann"}
    command = [python(), "broken.py", "--quiet", "run", "--with", "orchestrator_internal"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "no letters in [1, 2]" in ended.stdout + ended.stderr
    (file,) = (tmp_path / ".metaflow/BrokenFlow").glob("*/start/*/0.orchestrator_summary.json")
    summary = json.loads(file.read_text())
    assert (summary["ok"], summary["outcome"]) == (False, None)
    assert summary["error"] == {"type": "ValueError", "message": "no letters in [1, 2]"}
    assert summary["artifacts"]["rows"]["value"] == [1, 2]
