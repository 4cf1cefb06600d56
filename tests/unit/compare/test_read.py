"""Real local runs, compared by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FLOW = """
from metaflow import FlowSpec, Parameter, current, step

class ComparedFlow(FlowSpec):
    alpha = Parameter("alpha", default=1)

    @step
    def start(self):
        self.items = [1, 2]
        self.rounds = 0
        print("run", current.run_id)
        self.next(self.work, foreach="items")

    @step
    def work(self):
        self.value = self.input * self.alpha
        print("value", self.value)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.names = {"a", "b", "c"}
        self.rounds = 0
        self.next(self.again)

    @step
    def again(self):
        self.rounds += 1
        self.more = "yes" if self.rounds < 2 else "no"
        self.next({"yes": self.again, "no": self.end}, condition="more")

    @step
    def end(self):
        pass

if __name__ == "__main__":
    ComparedFlow()
"""


@pytest.mark.extended
@pytest.mark.subprocess
def test_two_local_runs_differ_in_what_their_parameter_changes_and_in_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    (tmp_path / "compared.py").write_text(FLOW)
    first, same, other = (run(tmp_path, alpha, tag) for alpha, tag in ((1, "t"), (1, "t"), (2, "u")))
    code, found = compare(first, same)
    assert (code, found["differences"], found["tasks"]) == (0, [], 7)
    code, found = compare(first, other)
    assert code == 1
    by_kind: dict[str, set[tuple[str, str]]] = {}
    for one in found["differences"]:
        by_kind.setdefault(one["kind"], set()).add((one["where"], one["name"]))
    assert by_kind["tag"] == {("run", "t"), ("run", "u")}
    assert by_kind["log"] == {("work[work:0]", "stdout line 1"), ("work[work:1]", "stdout line 1")}
    assert by_kind["artifact"] >= {("work[work:0]", "value"), ("work[work:1]", "value"), ("start", "alpha")}
    assert {name for _, name in by_kind["artifact"]} == {"alpha", "value"}
    assert by_kind.keys() == {"tag", "log", "artifact"}
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    shuffled = run(tmp_path, 1, "t")
    # A set is pickled in another order; its value is the same.
    assert compare(first, shuffled, "--values") == (0, {**found, "right": shuffled, "differences": []})
    code, text = command("compare", first, "ComparedFlow/1")
    assert (code, "there is no run 'ComparedFlow/1'" in text) == (1, True)


@pytest.mark.subprocess
def test_a_local_run_and_one_with_the_ids_of_an_orchestrator_do_not_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    (tmp_path / "compared.py").write_text(FLOW)
    local = run(tmp_path, 1, "t")
    ids = ["--run-id", "airflow-1", "--tag", "t"]
    flow(tmp_path, "init", *ids, "--task-id", "t-parameters", "--alpha", "1")
    for name, task, inputs, *more in (
        ("start", "t-start", "_parameters/t-parameters"),
        ("work", "t-work-0", "start/t-start", "--split-index", "0"),
        ("work", "t-work-1", "start/t-start", "--split-index", "1"),
        ("join", "t-join", "work/:t-work-0,t-work-1"),
        ("again", "t-again", "join/t-join"),
        ("again", "t-again-1", "again/t-again"),
    ):
        flow(tmp_path, "step", name, *ids, "--task-id", task, "--input-paths", f"airflow-1/{inputs}", *more)
    code, found = compare(local, "ComparedFlow/airflow-1", "--no-logs")
    assert (code, found["unfinished"]) == (1, ["ComparedFlow/airflow-1"])
    assert [(one["kind"], one["where"]) for one in found["differences"]] == [("task", "end")]
    flow(tmp_path, "step", "end", *ids, "--task-id", "t-end", "--input-paths", "airflow-1/again/t-again-1")
    code, found = compare(local, "ComparedFlow/airflow-1", "--no-logs")
    assert (code, found["differences"], found["tasks"], found["unfinished"]) == (0, [], 7, [])


def flow(folder: Path, *arguments: str) -> None:
    program = [sys.executable, "compared.py", "--quiet", "--no-pylint", *arguments]
    subprocess.run(program, cwd=folder, check=True, timeout=300)


def run(folder: Path, alpha: int, tag: str) -> str:
    arguments = ["run", "--alpha", str(alpha), "--tag", tag, "--run-id-file", "id"]
    flow(folder, *arguments)
    return f"ComparedFlow/{(folder / 'id').read_text().strip()}"


def compare(left: str, right: str, *options: str) -> tuple[int, dict[str, Any]]:
    code, text = command("compare", left, right, "--json", *options)
    return code, json.loads(text)


def command(*arguments: str) -> tuple[int, str]:
    program = [sys.executable, "-m", "airflow_provider_metaflow.console.main", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout or done.stderr
