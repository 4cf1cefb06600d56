"""`python flow.py airflow check`: what is printed, and that nothing is deployed, saved or asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.airflow_api import AirflowApi
from tests.support.command_line import CommandLine, Result

from metaflow_adapters.argo.check import NAME as ARGO
from metaflow_adapters.step_functions.check import NAME as STEP_FUNCTIONS
from metaflow_orchestration.check.report import Report, State, read_report


def report_of(result: Result) -> Report:
    begin = result.output.index('{\n  "flow"')
    document, _ = json.JSONDecoder().raw_decode(result.output[begin:])
    return read_report(json.dumps(document))


def test_a_flow_that_airflow_takes_is_a_table_and_an_exit_code_of_zero(
    terminal: CommandLine, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The table breaks no line, however long the folder of the datastore is.
    monkeypatch.setenv("COLUMNS", "400")
    result = terminal.run(flows / "foreach.py", "airflow", "--name", "renamed", "check", "--width", "3")
    assert result.code == 0, result.output
    assert "ForeachFlow, with 3 splits in each foreach" in result.output
    assert "renamed (7 of 250 characters)" in result.output
    assert not (terminal.root / ".metaflow/ForeachFlow").exists()


def test_a_secret_that_is_given_is_neither_saved_nor_shown(terminal: CommandLine, flows: Path, api: AirflowApi) -> None:
    options = ("--notify-on-error", "--notify-slack-webhook-url=https://s3cret", "--worker-pool=ml", "--json")
    result = terminal.run(flows / "linear.py", "airflow", "check", *options)
    assert result.code == 0, result.output
    found = {(row.subject, row.found) for row in report_of(result).rows}
    assert {("connection", "metaflow.LinearFlow.slack"), ("pool", "ml")} <= found
    assert "s3cret" not in result.output
    assert api.requests == []


@pytest.mark.parametrize(
    ("group", "target", "word"),
    [("argo", ARGO, "pods can reach"), ("sfn", STEP_FUNCTIONS, "needs --datastore=s3")],
)
def test_a_refusal_is_a_row_with_its_fix_and_an_exit_code_of_one(
    terminal: CommandLine, flows: Path, group: str, target: str, word: str
) -> None:
    result = terminal.run(flows / "linear.py", group, "check", "--json")
    (row,) = report_of(result).rows
    assert (result.code, row.target, row.state) == (1, target, State.REFUSED)
    assert word in row.found
    assert "--datastore=s3" in row.fix


INCLUDES = """
from metaflow import FlowSpec, IncludeFile, step

class IncludesFlow(FlowSpec):
    notes = IncludeFile("notes", default="notes.txt")

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    IncludesFlow()
"""


def test_the_default_of_an_include_file_is_not_uploaded_and_must_be_there(
    terminal: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Metaflow keeps such files beside the datastore, where this says.
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(terminal.root))
    file = terminal.root / "includes.py"
    file.write_text(INCLUDES)
    (terminal.root / "notes.txt").write_text("hello")
    assert terminal.run(file, "airflow", "check").code == 0
    assert not (terminal.root / "data").exists()
    assert not (terminal.root / ".metaflow/data").exists()
    (terminal.root / "notes.txt").unlink()
    result = terminal.run(file, "airflow", "check", "--json")
    (row,) = report_of(result).rows
    assert (result.code, row.state, "notes.txt" in row.found) == (1, State.REFUSED, True)
