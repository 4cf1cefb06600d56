"""The floor of the coverage, and modules that the tests hardly reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.harness import measured
from tests.harness.measured import Measured

SETTINGS = """
[tool.coverage.report]
fail_under = 80.5
[tool.airflow-provider-metaflow.low-coverage]
"a.py" = "It runs in pods only."
"""


def report(**modules: float) -> Measured:
    files = {
        f"{name}.py": {"summary": {"percent_covered": percent, "num_statements": 4}}
        for name, percent in modules.items()
    }
    return Measured.of_report({"files": files, "totals": {"percent_covered": 81.0}})


def test_a_coverage_at_the_floor_with_reasons_for_low_modules_is_no_problem() -> None:
    assert report(a=12.0, b=60.0).problems(81.0, {"a.py": "It runs in pods only."}) == []


def test_less_than_the_floor_is_a_problem() -> None:
    assert report(b=90.0).problems(81.1, {}) == [
        "The tests reach 81.0 % of the product, less than the floor of 81.1 %."
    ]


@pytest.mark.parametrize("reasons", [{}, {"a.py": " "}])
def test_a_module_below_sixty_percent_needs_a_written_reason(reasons: dict[str, str]) -> None:
    (told,) = report(a=59.9, b=60.0).problems(50, reasons)
    assert told.startswith("The tests reach 60 % of a.py")


def test_a_reason_for_a_module_that_is_gone_is_a_problem() -> None:
    assert report(a=60.0).problems(50, {"a.py": "It runs in pods only.", "gone.py": "x"}) == [
        "pyproject.toml gives a reason for gone.py, which is gone.",
    ]


def test_a_module_without_statements_is_no_module_to_test() -> None:
    files = {"empty.py": {"summary": {"percent_covered": 0.0, "num_statements": 0}}}
    assert Measured.of_report({"files": files, "totals": {"percent_covered": 100.0}}).modules == ()


def test_the_floor_rises_to_what_was_measured_and_never_falls(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(SETTINGS)
    assert measured.settings(file) == (80.5, {"a.py": "It runs in pods only."})
    assert measured.write_floor(80.59, 80.5, file) == "The floor stays at 80.5 %; measured was 80.59 %."
    assert measured.write_floor(12.0, 80.5, file).startswith("The floor stays at 80.5 %")
    assert file.read_text() == SETTINGS
    assert measured.write_floor(83.27, 80.5, file) == "The floor is 83.2 % now, after 80.5 %."
    assert measured.settings(file)[0] == 83.2


def test_only_processes_of_affordable_tests_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "_children", "settings")
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "settings")
    item: Any = SimpleNamespace(nodeid="tests/integration/test_shapes.py::test_a")
    measured.measure_children(item)
    assert "COVERAGE_PROCESS_CONFIG" not in os.environ
    measured.measure_children(SimpleNamespace(nodeid="tests/unit/compute/local/test_processes.py::test_a"))  # type: ignore[arg-type]
    assert os.environ["COVERAGE_PROCESS_CONFIG"] == "settings"
    monkeypatch.setenv("TEST_COVERAGE", "all")
    measured.measure_children(item)
    assert os.environ["COVERAGE_PROCESS_CONFIG"] == "settings"


@pytest.mark.subprocess
def test_a_forked_child_that_ends_by_exit_is_measured(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "product").mkdir()
    (tmp_path / "product/work.py").write_text("def child():\n    a = 1\n    return a\n")
    (tmp_path / "main.py").write_text(
        "import os\nfrom product.work import child\npid = os.fork()\n"
        "if pid == 0:\n    child()\n    os._exit(0)\nos.waitpid(pid, 0)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[tool.coverage.run]\nbranch = true\nparallel = true\nsource = ["product"]\n'
        + next(line for line in measured.SETTINGS.read_text().splitlines(keepends=True) if line.startswith("patch ="))
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment["PYTHONPATH"] = str(tmp_path)
    for command in (["run", "main.py"], ["combine", "-q"], ["report", "--format=total"]):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "100"


KILLED = """
import os, signal, sys
import coverage
measuring = coverage.Coverage(data_file=sys.argv[1], config_file=False, source=[sys.argv[2]])
measuring.start()
sys.path.insert(0, sys.argv[2])
import measured_product
from tests.harness.measured import save
save()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.subprocess
def test_what_a_worker_has_measured_is_kept_if_it_is_killed_after_its_last_test(tmp_path: Path) -> None:
    """It was lost, and a whole run said that the tests reach nothing of a module whose tests had run last."""
    coverage = pytest.importorskip("coverage")
    (tmp_path / "measured_product.py").write_text("value = 1\n")
    data = tmp_path / "measured"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(data), str(tmp_path)], cwd=measured.ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    found = coverage.CoverageData(str(data))
    found.read()
    assert [Path(one).name for one in found.measured_files()] == ["measured_product.py"]


PAUSED = """
import sys
import coverage
measuring = coverage.Coverage(data_file=sys.argv[1], config_file=False, source=[sys.argv[2]])
measuring.start()
sys.path.insert(0, sys.argv[2])
from tests.harness.measured import unmeasured
with unmeasured():
    import left_out
import measured_product
measuring.stop()
measuring.save()
"""


@pytest.mark.subprocess
def test_what_is_not_to_be_measured_is_left_out_and_what_follows_is_measured(tmp_path: Path) -> None:
    coverage = pytest.importorskip("coverage")
    for name in ("left_out", "measured_product"):
        (tmp_path / f"{name}.py").write_text("value = 1\n")
    data = tmp_path / "measured"
    subprocess.run([sys.executable, "-c", PAUSED, str(data), str(tmp_path)], cwd=measured.ROOT, check=True)
    found = coverage.CoverageData(str(data))
    found.read()
    lines = {Path(one).name: found.lines(one) for one in found.measured_files()}
    # Coverage.py names files that it has not seen, too.
    assert {name for name, measured_lines in lines.items() if measured_lines} == {"measured_product.py"}


def test_where_nothing_is_measured_nothing_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "coverage", raising=False)
    with measured.unmeasured():
        reached = True
    assert reached
