"""Airflow's own habits hold: retry, clear, mark, kill, pools, packing, and code that stays what it was."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import quote

import metaflow
import pytest
from tests.support.airflow import FlowRun, SharedAirflow

from airflow_provider_metaflow.rest import dags

pytestmark = pytest.mark.scheduler


@pytest.fixture(scope="module")
def fragile(airflow: SharedAirflow, flows: Path) -> None:
    airflow.create(flows / "fragile.py")


def start(airflow: SharedAirflow, folder: Path, *flags: str) -> FlowRun:
    for flag in flags:
        (folder / flag).touch()
    return airflow.start("FragileFlow", "FragileFlow", {"folder": str(folder)})


def notes(folder: Path, step: str) -> list[str]:
    lines = (folder / "notes").read_text().splitlines()
    return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{step} ")]


def wait_for_note(airflow: SharedAirflow, folder: Path, step: str) -> str:
    airflow.wait_until(lambda: (folder / "notes").exists() and notes(folder, step))
    return notes(folder, step)[-1]


@pytest.fixture(scope="module")
def finished(airflow: SharedAirflow, fragile: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowRun, Path]:
    folder = tmp_path_factory.mktemp("finished")
    run = start(airflow, folder)
    run.wait()
    return run, folder


def test_a_foreach_beyond_the_map_limit_is_packed_and_each_task_has_its_own_retry(
    finished: tuple[FlowRun, Path],
) -> None:
    run, folder = finished
    assert run.artifacts()["collect"][((), ())]["vs"] == [2 * i for i in range(12)]
    # 12 tasks, at most 8 instances: two by two.
    assert len([key for key in run.instances() if key[0] == "body"]) == 6
    again = [note for note in notes(folder, "body") if note.endswith(" 1")]
    assert sorted(again) == ["3 1", "7 1"]
    assert len(notes(folder, "body")) == 14
    metaflow.metadata(f"local@{run.airflow.sysroot}")
    metaflow.namespace(None)
    assert len(list(metaflow.Step(f"FragileFlow/{run.run_id}/body"))) == 12


def test_a_retried_recursion_goes_on_at_the_round_that_failed(finished: tuple[FlowRun, Path]) -> None:
    _, folder = finished
    assert notes(folder, "loop") == ["1 0", "2 0", "3 0", "3 1", "4 1", "5 1"]


@pytest.mark.extended
def test_a_retried_pack_of_recursions_goes_on_at_the_round_that_failed(finished: tuple[FlowRun, Path]) -> None:
    run, folder = finished
    assert len([key for key in run.instances() if key[0] == "drain"]) == 6
    # The two of one pack; the one before had ended and is not run again.
    assert [note for note in notes(folder, "drain") if note.split()[0] in ("8", "10")] == [
        "8 2 0", "8 1 0", "8 0 0", "10 2 0", "10 1 0", "10 1 1", "10 0 1",
    ]  # fmt: skip


def test_clearing_one_task_runs_exactly_it_again_and_a_seventh_time_too(
    airflow: SharedAirflow, finished: tuple[FlowRun, Path]
) -> None:
    run, folder = finished
    before = run.artifacts()["hang"][((), ())]["stamp"]
    starts = len(notes(folder, "start"))
    for number in range(2, 8):
        run.clear(task_ids=["hang"])
        run.wait()
        assert run.instances()[("hang", -1)].try_number == number
    assert len(notes(folder, "start")) == starts
    # Attempts 0 to 5 belong to the first task id, the seventh try to the next generation.
    metaflow.metadata(f"local@{airflow.sysroot}")
    metaflow.namespace(None)
    tasks = {task.id: task for task in metaflow.Step(f"FragileFlow/{run.run_id}/hang")}
    assert set(tasks) == {"t-hang", "t-hang-g1"}
    assert tasks["t-hang-g1"].data.stamp > before
    # The consumer of the seventh result finds it.
    run.clear(task_ids=["end"])
    run.wait()
    assert metaflow.Task(f"FragileFlow/{run.run_id}/end/t-end").data.stamp == tasks["t-hang-g1"].data.stamp


def test_clearing_a_mapped_index_runs_its_tasks_again(finished: tuple[FlowRun, Path]) -> None:
    run, folder = finished
    count = len(notes(folder, "body"))
    run.clear(task_ids=[["body", 2]], include_downstream=True)
    run.wait()
    assert [note.split()[0] for note in notes(folder, "body")[count:]] == ["4", "5"]
    assert run.artifacts()["collect"][((), ())]["vs"] == [2 * i for i in range(12)]


@pytest.mark.extended
def test_clearing_the_whole_run_keeps_the_run_and_adds_attempts(finished: tuple[FlowRun, Path]) -> None:
    run, folder = finished
    count = len(notes(folder, "start"))
    run.clear()
    run.wait()
    assert len(notes(folder, "start")) == count + 1
    assert run.artifacts()["collect"][((), ())]["vs"] == [2 * i for i in range(12)]


@pytest.mark.extended
def test_a_switch_in_a_foreach_that_changes_its_mind_when_cleared_leaves_no_stale_input(
    airflow: SharedAirflow, flows: Path, tmp_path: Path
) -> None:
    for index, case in enumerate(("long", "short", "long")):
        (tmp_path / str(index)).write_text(case)
    airflow.create(flows / "undecided.py")
    run = airflow.start("UndecidedFlow", "UndecidedFlow", {"folder": str(tmp_path)})
    run.wait()
    assert run.artifacts()["collect"][((), ())]["rs"] == ["long0", "short1", "long2"]
    (tmp_path / "2").write_text("short")
    run.clear(task_ids=[["decide", 2]], include_downstream=True)
    run.wait()
    # The task `longer` of index 2 is skipped now, without a start that could take back its outcome.
    assert run.instances()[("longer", 2)].state == "skipped"
    assert run.artifacts()["collect"][((), ())]["rs"] == ["long0", "short1", "short2"]


def test_a_failed_step_fails_the_run_and_succeeds_when_it_is_cleared(
    airflow: SharedAirflow, fragile: None, tmp_path: Path
) -> None:
    (tmp_path / "no-folder").touch()
    run = airflow.start("FragileFlow", "FragileFlow", {"folder": str(tmp_path / "later")})
    run.wait(expect="failed")
    assert run.states()["end"] == {"upstream_failed"}
    assert "No such file or directory" in run.log("start")
    (tmp_path / "later").mkdir()
    run.clear(task_ids=["start"], include_downstream=True)
    run.wait()


def test_marking_a_task_as_failed_kills_its_whole_process_group(
    airflow: SharedAirflow, fragile: None, tmp_path: Path
) -> None:
    run = start(airflow, tmp_path, "hang")
    pid = int(wait_for_note(airflow, tmp_path, "hang").split()[1])
    os.kill(pid, 0)
    airflow.server.client.request(
        "PATCH",
        f"/dags/FragileFlow/dagRuns/{quote(run.dag_run_id)}/taskInstances/hang",
        json={"new_state": "failed"},
    )
    airflow.wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout=90)
    run.wait(expect="failed")
    # Marked as success it still has no artifacts, and the next step says so instead of going on without.
    airflow.server.client.request(
        "PATCH",
        f"/dags/FragileFlow/dagRuns/{quote(run.dag_run_id)}/taskInstances/hang",
        json={"new_state": "success"},
    )
    run.clear(task_ids=["end"])
    run.wait(expect="failed")
    assert "hang counts as successful in Airflow but has no Metaflow result" in run.log("end", try_number=1)


def test_a_killed_airflow_task_leaves_no_metaflow_process(
    airflow: SharedAirflow, fragile: None, tmp_path: Path
) -> None:
    run = start(airflow, tmp_path, "hang")
    pid = int(wait_for_note(airflow, tmp_path, "hang").split()[1])
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environ = (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            # The Airflow task process holds the run's id in its own environment only while it runs our operator.
            if run.dag_run_id.encode() in environ + command and int(process.name) != pid:
                os.kill(int(process.name), 9)
    (tmp_path / "hang").unlink()
    run.wait(expect=None, timeout=300)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.extended
def test_an_edited_flow_does_not_change_a_running_run(airflow: SharedAirflow, tmp_path: Path) -> None:
    source = tmp_path / "pinned.py"
    text = """
import os, time
from metaflow import FlowSpec, step

class PinnedFlow(FlowSpec):
    @step
    def start(self):
        while not os.path.exists({flag!r}):
            time.sleep(0.1)
        self.next(self.end)

    @step
    def end(self):
        self.version = {version}

if __name__ == "__main__":
    PinnedFlow()
"""
    flag = str(tmp_path / "go")
    source.write_text(text.format(flag=flag, version=1))
    airflow.create(source, name="PinnedFlow")
    old = airflow.start("PinnedFlow", "PinnedFlow")
    airflow.wait_until(lambda: old.states().get("start") == {"running"})
    source.write_text(text.format(flag=flag, version=2))
    with airflow.parsed_again("PinnedFlow"):
        airflow.create(source, name="PinnedFlow")
    Path(flag).touch()
    old.wait()
    new = airflow.start("PinnedFlow", "PinnedFlow")
    new.wait()
    assert old.artifacts()["end"][((), ())]["version"] == 1
    assert new.artifacts()["end"][((), ())]["version"] == 2


GROUP_DAG = """
from airflow.sdk import DAG, task
from airflow_provider_metaflow import MetaflowTaskGroup

with DAG("nightly", schedule=None):

    @task
    def extract():
        return "from {{{{ upstream }}}} $HOME"

    @task(trigger_rule="none_failed")
    def report(first, second):
        return [first, second]

    value = extract()
    one = MetaflowTaskGroup({flow!r}, group_id="one", parameters={{"text": value}}, max_workers=2)
    two = MetaflowTaskGroup(
        {flow!r}, group_id="two", parameters={{"text": "{{{{ dag.dag_id }}}}"}}, pool="default_pool"
    )
    value >> one >> two
    two >> report(one.pathspec, two.pathspec)
"""


def test_a_flow_is_a_task_group_twice_in_a_larger_dag(airflow: SharedAirflow, flows: Path) -> None:
    airflow.write_dag("nightly", GROUP_DAG.format(flow=str(flows / "grouped.py")))
    one = airflow.start("nightly", "GroupedFlow", id_prefix="one.")
    one.wait()
    two = FlowRun(airflow, "GroupedFlow", "nightly", one.dag_run_id, "two.")
    assert one.artifacts()["end"][((), ())]["texts"] == [
        "from {{ upstream }} $HOME0",
        "from {{ upstream }} $HOME1",
    ]
    assert two.artifacts()["end"][((), ())]["texts"] == ["nightly0", "nightly1"]
    answer = airflow.server.client.request(
        "GET", f"/dags/nightly/dagRuns/{quote(one.dag_run_id)}/taskInstances/report/xcomEntries/return_value"
    )
    assert one.run_id in str(answer["value"])
    assert two.run_id in str(answer["value"])
    instances = one.instances()
    assert instances[("one.body", 0)].label == "0"


# Airflow opens a file only if it holds both words, airflow and dag.
MANY_FLOWS = """
# The DAGs of a folder.
from airflow_provider_metaflow import load_flows

load_flows(globals(), "many")
"""

GOOD_FLOW = """
from metaflow import FlowSpec, step

class {0}(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    {0}()
"""


def test_one_broken_flow_is_one_import_error_and_hides_no_other(airflow: SharedAirflow, tmp_path: Path) -> None:
    folder = airflow.server.dags / "many"
    folder.mkdir()
    good = GOOD_FLOW
    (folder / "good_one.py").write_text(good.format("GoodOne"))
    (folder / "good_two.py").write_text(good.format("GoodTwo"))
    (folder / "broken.py").write_text(
        good.format("BrokenFlow").replace("self.next(self.end)", "self.next(self.missing)")
    )
    airflow.write_dag(
        "many_flows",
        MANY_FLOWS,
    )
    dags.wait_for_dag(airflow.server.client, "GoodOne")
    dags.wait_for_dag(airflow.server.client, "GoodTwo")
    airflow.wait_until(lambda: any("broken.py" in name for name in dags.import_errors(airflow.server.client)))
    (text,) = [text for name, text in dags.import_errors(airflow.server.client).items() if name == "many/broken.py"]
    assert "flow broken.py step start" in text
    assert "missing" in text
    # Neither stale nor gone after the next parse.
    with airflow.parsed_again("GoodOne"):
        # The DAG processor compares with the end of its last reading, which it may be about to write down.
        soon = time.time() + 5
        os.utime(airflow.server.dags / "many_flows.py", (soon, soon))
    dags.wait_for_dag(airflow.server.client, "GoodOne", timeout=1)
