"""A test that fails is named at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.harness.failures import FailureReporter


def report(outcome: str, error: str = "") -> Any:
    return SimpleNamespace(failed=outcome == "failed", when="setup", nodeid="a.py::test_b", longreprtext=error)


def test_a_failure_is_named_with_the_last_line_of_its_error_and_nothing_else_is() -> None:
    lines: list[str] = []
    terminal = SimpleNamespace(ensure_newline=lambda: None, write_line=lambda line, red: lines.append(line))
    plugins = SimpleNamespace(get_plugin={"terminalreporter": terminal}.get)
    reporter = FailureReporter(SimpleNamespace(pluginmanager=plugins))  # type: ignore[arg-type]
    reporter.pytest_runtest_logreport(report("passed"))
    assert lines == []
    reporter.pytest_runtest_logreport(report("failed", "> assert 1 == 2\nE  AssertionError\n"))
    reporter.pytest_runtest_logreport(report("failed"))
    assert lines == [
        "FAILED in its setup: a.py::test_b - E  AssertionError",
        "FAILED in its setup: a.py::test_b - no error was told",
    ]


@pytest.mark.subprocess
def test_the_tests_of_this_repository_report_that_way(request: pytest.FixtureRequest) -> None:
    worker = hasattr(request.config, "workerinput")
    assert request.config.pluginmanager.has_plugin("failure-reporter") is not worker
