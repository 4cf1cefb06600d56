"""Defaults of parameters that cannot be used: one line with flow and parameter, as early as `create`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.command_line import CommandLine

from metaflow_orchestration.documents.manifest import read_manifest

FLOW = """
from metaflow import FlowSpec, IncludeFile, JSONType, Parameter, step


class DefaultsFlow(FlowSpec):
    given = {parameter}

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    DefaultsFlow()
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch)


def flow_with(folder: Path, parameter: str) -> Path:
    file = folder / "defaults.py"
    file.write_text(FLOW.format(parameter=parameter))
    return file


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("IncludeFile('given', default='no.txt')", "IncludeFile: could not open file 'no.txt' for reading"),
        ("Parameter('given', default=lambda context: 1 / 0)", "ZeroDivisionError: division by zero"),
        ("Parameter('given', type=int, default=lambda context: 'x')", "has a wrong type. Expected a int"),
        ("Parameter('given', type=int, default='x3')", "x3 is not a valid integer"),
        ("Parameter('given', type=float, default='much')", "much is not a valid floating point value"),
        ("Parameter('given', type=bool, default='perhaps')", "perhaps is not a valid boolean"),
        ("Parameter('given', type=JSONType, default='{bad')", "{bad is not a valid JSON object"),
    ],
)
def test_a_default_that_cannot_be_used_is_refused_in_one_line(
    terminal: CommandLine, tmp_path: Path, parameter: str, reason: str
) -> None:
    """A missing file was 30 lines of traceback; a text that is no number was deployed, and the DAG did not import."""
    done = terminal.run(flow_with(tmp_path, parameter), "airflow", "create", "d.py")
    assert done.code == 1
    (line,) = [line for line in done.output.splitlines() if "the default of the parameter" in line]
    assert "flow DefaultsFlow: the default of the parameter 'given' cannot be used:" in line
    assert reason in line
    assert "Traceback" not in done.output
    assert not (tmp_path / "d.py").exists()


@pytest.mark.parametrize(
    ("parameter", "default"),
    [
        ("Parameter('given', type=int, default=2.5)", "2"),
        ("Parameter('given', type=int, default='7')", "7"),
        ("Parameter('given', type=float, default=1)", "1"),
        ("Parameter('given', type=bool, default='yes')", "yes"),
        ("Parameter('given', type=JSONType, default={'a': 1})", '{"a": 1}'),
        ("Parameter('given', default=lambda context: 'x')", "x"),
    ],
)
def test_a_default_reaches_the_tasks_as_run_would_convert_it(
    terminal: CommandLine, tmp_path: Path, parameter: str, default: str
) -> None:
    done = terminal.run(flow_with(tmp_path, parameter), "airflow", "create", "d.py")
    assert done.code == 0, done.output
    (found,) = read_manifest(tmp_path / "d.metaflow.json").graph.parameters
    assert found.default == default


def test_a_verb_that_starts_a_run_needs_no_default(terminal: CommandLine, tmp_path: Path) -> None:
    """The deployment has it; the file lies on the machine of whoever has deployed."""
    file = flow_with(tmp_path, "IncludeFile('given', default='no.txt')")
    done = terminal.run(file, "airflow", "trigger")
    assert "METAFLOW_AIRFLOW_URL is not set" in done.output
