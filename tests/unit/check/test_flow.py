"""`metaflow-airflow check`, and `check_flow`: one report for all orchestrators, each asked by its own command group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from airflow_provider_metaflow.console.main import main
from metaflow_orchestration.check import Report, State, check_flow
from metaflow_orchestration.check.report import read_report
from metaflow_orchestration.exceptions import FlowCompileError, InvalidOptionError


def test_a_target_that_is_not_known_is_refused_before_anything_starts(flows: Path) -> None:
    with pytest.raises(InvalidOptionError, match=r"no target 'luigi'.*airflow, argo, step-functions"):
        check_flow(flows / "linear.py", ["luigi"])
    with pytest.raises(FlowCompileError, match="does not exist"):
        check_flow("nothing.py")


@pytest.mark.subprocess
def test_one_report_says_what_each_target_would_do(
    flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    targets = ["--target", "airflow", "argo", "step-functions"]
    result = CliRunner().invoke(main, ["check", str(flows / "foreach.py"), *targets, "--width=7", "--json"])
    assert result.exit_code == 1, result.output
    report = read_report(result.output)
    assert json.loads(result.output)["version"] == 1
    assert (report.flow, report.width, report.targets) == ("ForeachFlow", 7, ("airflow", "argo", "step-functions"))
    assert [report.is_supported(one) for one in report.targets] == [True, False, False]
    refusals = [row for row in report.rows if row.state is State.REFUSED]
    assert all("datastore" in row.found and "--datastore=s3" in row.fix for row in refusals)
    # Nothing is written: no package, no token.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.subprocess
def test_options_of_create_count_and_a_flow_that_is_no_flow_is_a_refusal(
    flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    arguments = ["check", str(flows / "linear.py"), "--target=airflow", "--", "--tag", "t" * 101]
    # Wide enough for the sentence to be on one line of the table's column.
    result = CliRunner(env={"COLUMNS": "250"}).invoke(main, arguments)
    assert result.exit_code == 1
    assert "has 101 characters; Airflow takes 100" in " ".join(result.output.replace("│", " ").split())
    assert check_flow(flows / "linear.py", ["airflow"], create=["--tag", "t" * 100]).exit_code == 0
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('on purpose')\n")
    report: Report = check_flow(broken, ["airflow"])
    (row,) = report.rows
    assert (row.state, report.flow) == (State.REFUSED, "broken.py")
    assert "on purpose" in row.found
