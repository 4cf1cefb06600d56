"""Names each test that passes only on a second try, with the failure of the first; none is tried again in silence.

`pytest-rerunfailures` runs a test again that is marked ``@pytest.mark.flaky(reruns=1)``, or any with ``--reruns 1``.
"""

from __future__ import annotations

import pytest


class FlakyReporter:
    """A pytest plugin, in the process that hears of all tests."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._failed: set[str] = set()

    @property
    def flaky(self) -> list[str]:
        """Node ids of the tests that failed and then passed."""
        return [name for name in self._first if name not in self._failed]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse more than one further try.

        :raises pytest.UsageError: if a test asks for it.
        """
        for item in items:
            for mark in item.iter_markers("flaky"):
                if (mark.args and mark.args != (1,)) or mark.kwargs.get("reruns", 1) != 1:
                    raise pytest.UsageError(f"{item.nodeid} is tried more than twice: fix it.")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the failure of a first try; `rerun` is the outcome that pytest-rerunfailures gives it."""
        outcome: str = report.outcome
        if outcome == "rerun":
            self._first.setdefault(report.nodeid, report.longreprtext)
        elif report.failed:
            self._failed.add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print each test that was tried again, whatever became of it."""
        if not self._first:
            return
        terminalreporter.section("tests that were tried again")
        for name, failure in self._first.items():
            terminalreporter.write_line(f"{'FAILED TWICE' if name in self._failed else 'FLAKY'} {name}", yellow=True)
            terminalreporter.write_line(f"The first try:\n{failure}\n")


def register(config: pytest.Config) -> FlakyReporter:
    """Report what is flaky; in the workers of xdist, only refuse."""
    reporter = FlakyReporter()
    config.pluginmanager.register(reporter, "flaky-reporter")
    return reporter
