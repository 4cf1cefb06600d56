"""The log of a task instance: errors of the step stand out, and what went before does not."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.execution.step_log import StepLog
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.run.commands import StepCall


class Log:
    """Notes what is logged at which level."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.infos: list[str] = []

    def error(self, _: str, text: str) -> None:
        self.errors.append(text)

    def info(self, _: str, text: str) -> None:
        self.infos.append(text)


def test_the_traceback_of_a_step_is_logged_as_an_error_and_its_progress_bar_is_not() -> None:
    log = Log()
    written = StepLog(log)
    for stream, text in [
        ("stderr", " 10%|#"), ("stdout", "hello"), ("stderr", "<flow F step start> failed:"),
        ("stderr", "    Traceback (most recent call last):"), ("stderr", "    ValueError: x"),
    ]:  # fmt: skip
        written.write(stream, text)
    written.end(failed=True)
    assert log.infos == [" 10%|#", "hello"]
    assert log.errors == ["<flow F step start> failed:", "    Traceback (most recent call last):", "    ValueError: x"]


def test_of_a_task_that_ends_without_an_exception_the_end_of_its_standard_error_is_shown_as_an_error() -> None:
    log = Log()
    written = StepLog(log)
    written.write("stderr", "the input is empty")
    written.end(failed=False)
    assert log.errors == []
    written.write("stdout", "hello")
    for number in range(30):
        written.write("stderr", f"line {number}")
    written.end(failed=True)
    assert log.errors == [f"line {number}" for number in range(10, 30)]


def test_the_error_of_a_failed_step_ends_with_the_message_of_its_exception(
    compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest = compiled("linear")
    lines: list[str] = []
    compute = LocalCompute.__new__(LocalCompute)
    object.__setattr__(compute, "manifest", manifest)
    object.__setattr__(compute, "code", manifest.code)
    object.__setattr__(compute, "on_line", lambda _, text: lines.append(text))

    def call(_: Any, answer: type[Any], on_line: Callable[[str, str], None]) -> Any:
        on_line("stderr", "Traceback (most recent call last):")
        on_line("stderr", "ValueError: asked to crash")
        return msgspec.convert({"status": 1, "outcome": None, "phase": "step"}, answer)

    monkeypatch.setattr(LocalCompute, "_environment", lambda *_: {})
    monkeypatch.setattr(LocalCompute, "_unpacked", lambda _: tmp_path)
    monkeypatch.setattr(LocalCompute, "_runner", lambda *_: SimpleNamespace(call=call))
    step = manifest.graph.step("middle")
    task = StepCall(
        step=step, run_id="r", task_id="t-middle", attempt=0, max_user_retries=0, inputs=("r/start/t-start",)
    )
    with pytest.raises(StepFailedError) as caught:
        compute.run(task)
    assert str(caught.value) == (
        "flow LinearFlow step middle: task LinearFlow/r/middle/t-middle, attempt 0, failed with exit code 1: "
        "ValueError: asked to crash"
    )
    assert lines == ["Traceback (most recent call last):", "ValueError: asked to crash"]


@pytest.mark.parametrize("kind", [StepFailedError, FinalFailureError])
def test_the_traceback_of_a_failed_step_shows_one_frame_of_this_package(
    start: Callable[..., FlowRun], metaflow: MemoryMetaflow, kind: type[StepFailedError]
) -> None:
    def fail(call: StepCall, _: dict[str, Any]) -> dict[str, Any]:
        raise kind("ValueError: asked to crash", flow="LinearFlow", step=call.step.name)

    metaflow.outcome = fail
    failed = start("linear").run("start")
    assert failed.error is not None
    frames = traceback.extract_tb(failed.error.__traceback__)
    assert len([one for one in frames if "airflow_provider_metaflow" in one.filename]) == 1
    assert (failed.error.__cause__, failed.error.__suppress_context__) == (None, True)
    assert str(failed.error).endswith("ValueError: asked to crash")
