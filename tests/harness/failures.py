"""Names each test that fails at once: a run that is ended from outside has said by then what failed."""

from __future__ import annotations

import pytest


class FailureReporter:
    """A pytest plugin, in the process that hears of all tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the name of a test that failed, and the last line of its error."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if not report.failed or terminal is None:
            return
        error = (report.longreprtext.strip().splitlines() or ["no error was told"])[-1]
        terminal.ensure_newline()
        terminal.write_line(f"FAILED in its {report.when}: {report.nodeid} - {error}", red=True)


def register(config: pytest.Config) -> None:
    """Report failures; not in the workers of xdist."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailureReporter(config), "failure-reporter")
