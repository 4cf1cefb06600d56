"""The verbs of `python flow.py airflow` on a deployed flow, in process, against an API over loopback."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_api import AirflowApi
from tests.support.command_line import CommandLine, Result

from airflow_provider_metaflow.plan.record import record_line
from metaflow_orchestration.documents.manifest import read_manifest
from metaflow_orchestration.graph.identity import airflow_run_id


class Deployed:
    """A flow, by default `grouped`, deployed by alice, and what Airflow has parsed of it."""

    def __init__(
        self, terminal: CommandLine, api: AirflowApi, flows: Path, shape: str = "grouped", name: str = "GroupedFlow"
    ) -> None:
        self.terminal, self.api, self.file, self.name = terminal, api, flows / f"{shape}.py", name
        self.folder = terminal.root / "dags"
        assert self.call("create").code == 0
        self.manifest = read_manifest(self.folder / f"{name}.metaflow.json")
        api.add_dag(self.name, record_line(self.manifest))

    def call(self, *arguments: str, user: str = "alice") -> Result:
        return self.terminal.run(self.file, "airflow", *arguments, user=user)

    def run_id(self, name: str = "r") -> str:
        return airflow_run_id(self.name, name)


@pytest.fixture
def deployed(terminal: CommandLine, api: AirflowApi, flows: Path) -> Deployed:
    return Deployed(terminal, api, flows)


def test_a_run_is_started_with_the_parameters_that_were_given(deployed: Deployed, tmp_path: Path) -> None:
    done = deployed.call(
        "trigger", "--text=x", "--note=why", "--logical-date=2026-01-31T00:00:00Z", "--run-id-file=id",
        "--deployer-attribute-file=told.json",
    )  # fmt: skip
    assert done.code == 0, done.output
    (run,) = deployed.api.runs["GroupedFlow"]
    assert (run["conf"], run["note"], run["logical_date"]) == ({"text": "x"}, "why", "2026-01-31T00:00:00Z")
    run_id = deployed.run_id(run["dag_run_id"])
    assert (tmp_path / "id").read_text() == run_id
    assert json.loads((tmp_path / "told.json").read_text())["pathspec"] == f"GroupedFlow/{run_id}"
    assert f"triggered on Airflow (run-id {run_id})" in done.output
    assert f"{deployed.api.url}/dags/GroupedFlow/runs/{run['dag_run_id']}" in done.output


def test_a_parameter_that_was_not_given_is_left_to_the_deployment(deployed: Deployed) -> None:
    assert deployed.call("trigger").code == 0
    assert deployed.api.runs["GroupedFlow"][0]["conf"] == {}


def test_a_parameter_of_the_environment_counts_as_given(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_AIRFLOW_TRIGGER_TEXT", "from the environment")
    monkeypatch.setenv("METAFLOW_RUN_TEXT", "of another command")
    deployed.call("trigger")
    assert deployed.api.runs["GroupedFlow"][0]["conf"] == {"text": "from the environment"}


def test_a_paused_dag_starts_no_run_unless_it_may_be_unpaused(deployed: Deployed) -> None:
    deployed.api.dags["GroupedFlow"]["is_paused"] = True
    done = deployed.call("trigger")
    assert (done.code, "is paused, so that a run would wait. Give --unpause" in done.output) == (1, True)
    assert deployed.api.runs["GroupedFlow"] == []
    assert deployed.call("trigger", "--unpause").code == 0
    assert deployed.api.dags["GroupedFlow"]["is_paused"] is False
    assert len(deployed.api.runs["GroupedFlow"]) == 1


def test_a_start_waits_for_the_deployment_that_was_made_last(deployed: Deployed) -> None:
    assert deployed.call("create", "--tag=newer").code == 0
    done = deployed.call("trigger", "--parse-timeout=0")
    assert (done.code, "has not parsed this deployment of the DAG GroupedFlow within 0 s" in done.output) == (1, True)
    newer = read_manifest(deployed.folder / "GroupedFlow.metaflow.json")
    deployed.api.dags["GroupedFlow"]["doc_md"] = record_line(newer)
    assert deployed.call("trigger", "--parse-timeout=0").code == 0
    for old in (("--wait=0",), ("--wait", "0")):
        # It would look as if it waited for the run.
        done = deployed.call("trigger", *old)
        assert (done.code, "--wait takes no number" in done.output) == (2, True)
    assert len(deployed.api.runs["GroupedFlow"]) == 1


def test_a_resume_waits_for_the_deployment_that_was_made_last(deployed: Deployed) -> None:
    """Right after `create` it was refused, or took the steps and parameters of the deployment before."""
    deployed.api.add_run("GroupedFlow", "r", "failed")
    assert deployed.call("create", "--tag=newer").code == 0
    newer = record_line(read_manifest(deployed.folder / "GroupedFlow.metaflow.json"))
    asked: list[str] = []

    def parse(_: str, path: str) -> None:
        asked.append(path)
        if sum(one.endswith("/details") for one in asked) == 2:
            deployed.api.dags["GroupedFlow"]["doc_md"] = newer

    deployed.api.on_request = parse
    done = deployed.call("resume", "--origin-run-id=r")
    assert (done.code, "Waiting for Airflow to parse the DAG GroupedFlow..." in done.output) == (0, True), done.output
    assert len(deployed.api.runs["GroupedFlow"]) == 2


@pytest.mark.parametrize("verb", [("trigger",), ("resume", "--origin-run-id=r")])
def test_a_deployment_that_another_process_has_deleted_is_said_to_be_deleted(
    deployed: Deployed, verb: tuple[str, ...]
) -> None:
    """Airflow has its DAG for some minutes more; the run would fail, or wait."""
    deployed.api.add_run("GroupedFlow", "r", "failed")
    deployed.api.dags["GroupedFlow"]["fileloc"] = "/of/another/machine/GroupedFlow.py"
    for file in deployed.folder.iterdir():
        file.unlink()
    assert deployed.call(*verb).code == 0
    deployed.api.dags["GroupedFlow"]["fileloc"] = str(deployed.folder / "GroupedFlow.py")
    done = deployed.call(*verb)
    assert (done.code, "the deployment GroupedFlow was deleted" in done.output) == (1, True), done.output
    assert len(deployed.api.runs["GroupedFlow"]) == 2


@pytest.mark.parametrize(("state", "code"), [("success", 0), ("failed", 1)])
@pytest.mark.parametrize("verb", [("trigger",), ("resume", "--origin-run-id=r"), ("resume", "r")])
def test_a_start_that_waits_for_the_end_exits_as_the_run_ends(
    deployed: Deployed, verb: tuple[str, ...], state: str, code: int
) -> None:
    deployed.api.add_run("GroupedFlow", "r", "failed")
    deployed.api.add_task("r", "body", "failed", 0)

    def end(_: str, path: str) -> None:
        if path.endswith("/taskInstances"):
            for run in deployed.api.runs["GroupedFlow"]:
                run["state"] = state
                deployed.api.add_task(run["dag_run_id"], "end", state)

    deployed.api.on_request = end
    done = deployed.call(*verb, "--wait")
    assert done.code == code, done.output
    assert ("SUCCEEDED" if state == "success" else "FAILED") in done.output


def test_without_an_airflow_the_settings_are_named(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAFLOW_AIRFLOW_URL")
    for verb in (("trigger",), ("status", "x"), ("list-runs",), ("list-deployments",)):
        done = deployed.call(*verb)
        assert (done.code, "METAFLOW_AIRFLOW_URL is not set. Set it to the address" in done.output) == (1, True)


def test_a_run_and_the_runs_are_shown(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    deployed.api.add_run("GroupedFlow", "r", "failed")
    deployed.api.add_run("GroupedFlow", "q", "queued", start_date=None)
    deployed.api.add_task("r", "body", "failed", 0)
    deployed.api.logs["body", 0, 1] = "it broke"
    shown = deployed.call("status", deployed.run_id()).output
    assert f"GroupedFlow/{deployed.run_id()}: FAILED" in shown
    # As `run` does, for scripts.
    assert (deployed.call("status", deployed.run_id()).code, deployed.call("status", "r", "--watch").code) == (0, 1)
    listed = deployed.call("list-runs", "--failed").output
    assert (deployed.run_id() in listed, deployed.run_id("q") in listed) == (True, False)
    listed = deployed.call("list-runs", "--pending", "--failed").output
    assert (deployed.run_id() in listed, deployed.run_id("q") in listed) == (True, True)
    assert deployed.run_id() not in deployed.call("list-runs", "--limit=1").output
    assert "it broke" in deployed.call("logs", "r", "--failed", "--step=body").output
    assert "has no step 'boddy'" in deployed.call("logs", "r", "--step=boddy").output
    assert "GroupedFlow" in deployed.call("list-deployments").output


def test_runs_and_deployments_are_printed_as_json(deployed: Deployed) -> None:
    deployed.api.add_run("GroupedFlow", "r", "failed")
    deployed.api.add_task("r", "body", "failed", 0)
    deployed.api.add_task("r", "body", None, 1)

    def printed(*arguments: str, code: int = 0) -> Any:
        done = deployed.call(*arguments, "--json")
        assert done.code == code, done.output
        return json.loads(re.split(r"^(?=[\[{])", done.output, maxsplit=1, flags=re.MULTILINE)[1])

    run = {
        "run": f"GroupedFlow/{deployed.run_id()}", "status": "FAILED", "airflow_run": "r",
        "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:30+00:00",
    }  # fmt: skip
    assert printed("list-runs") == [run]
    shown = printed("status", "r", "--watch", code=1)
    assert {name: shown[name] for name in run} == run
    assert shown["url"] == f"{deployed.api.url}/dags/GroupedFlow/runs/r"
    assert {one["step"]: one["tasks"] for one in shown["steps"]}["body"] == {"failed": 1, "waiting": 1}
    assert printed("list-deployments") == [
        {"deployment": "GroupedFlow", "flow": "GroupedFlow", "owner": "alice", "branch": "", "state": "active"}
    ]


@pytest.mark.parametrize(
    ("verb", "request_made"),
    [("terminate", {"state": "failed"}), ("suspend", {"is_paused": True}), ("unsuspend", {"is_paused": False})],
)
def test_only_the_owner_or_a_holder_of_the_token_ends_or_holds_a_run(
    deployed: Deployed, verb: str, request_made: dict[str, object]
) -> None:
    deployed.api.add_run("GroupedFlow", "r")
    deployed.api.add_run("GroupedFlow", "other")
    for arguments in ((), ("--authorize=guess",)):
        done = deployed.call(verb, "r", *arguments, user="mallory")
        assert (done.code, "their production token is needed" in done.output) == (1, True)
    assert not any(method == "PATCH" for method, _, _ in deployed.api.requests)
    token = deployed.manifest.deployment.production_token
    done = deployed.call(verb, "r", f"--authorize={token}", user="bob")
    assert done.code == 0, done.output
    assert [body for method, _, body in deployed.api.requests if method == "PATCH"] == [request_made]
    if verb != "terminate":
        assert "With it 1 other active runs of the DAG were" in done.output


def test_a_failed_run_goes_on_in_place(deployed: Deployed) -> None:
    deployed.api.add_run("GroupedFlow", "r", "failed")
    deployed.api.add_task("r", "body", "failed", 0)
    assert "their production token is needed" in deployed.call("resume", "r", user="mallory").output
    done = deployed.call("resume", "r")
    assert f"1 tasks of the run {deployed.run_id()} run again." in done.output
    assert deployed.api.tasks["r"][0]["state"] is None
    assert len(deployed.api.runs["GroupedFlow"]) == 1


def test_a_failed_run_goes_on_in_place_with_other_parameters(deployed: Deployed) -> None:
    """They were dropped without a word."""
    deployed.api.add_run("GroupedFlow", "r", "failed")
    deployed.api.add_task("r", "body", "failed", 0)
    deployed.terminal.save_parameters("GroupedFlow", deployed.run_id(), text="a", other=1)
    assert "their production token is needed" in deployed.call("resume", "r", "--text=b", user="mallory").output
    assert deployed.terminal.parameters("GroupedFlow", deployed.run_id()) == {"text": "a", "other": 1}
    done = deployed.call("resume", "r", "--text=b")
    assert f"1 tasks of the run {deployed.run_id()} run again." in done.output
    assert deployed.terminal.parameters("GroupedFlow", deployed.run_id()) == {"text": "b", "other": 1}
    assert deployed.api.tasks["r"][0]["state"] is None
    deployed.api.runs["GroupedFlow"][0]["state"] = "running"
    assert "only a failed run can be resumed" in deployed.call("resume", "r", "--text=c").output
    assert deployed.terminal.parameters("GroupedFlow", deployed.run_id()) == {"text": "b", "other": 1}


def test_a_step_of_a_run_that_succeeded_runs_again_in_place(deployed: Deployed) -> None:
    """It was refused, with the advice to clear the step's tasks in Airflow."""
    deployed.api.add_run("GroupedFlow", "r", "success")
    for step in ("start", "body", "collect"):
        deployed.api.add_task("r", step, "success")
    deployed.terminal.save_parameters("GroupedFlow", deployed.run_id(), text="a")
    done = deployed.call("resume", "r", "--step-to-rerun=body", "--text=b")
    assert f"2 tasks of the run {deployed.run_id()} run again." in done.output
    assert [one["state"] for one in deployed.api.tasks["r"]] == ["success", None, None]
    assert deployed.terminal.parameters("GroupedFlow", deployed.run_id()) == {"text": "b"}


def test_parameters_of_a_run_that_goes_on_in_place_are_kept_as_metaflow_keeps_them(
    terminal: CommandLine, api: AirflowApi, flows: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("the default")
    deployed = Deployed(terminal, api, flows, "files/parameters", "ParametersFlow")
    api.add_run("ParametersFlow", "r", "failed")
    terminal.save_parameters("ParametersFlow", deployed.run_id(), number=1, flag=False, config={}, notes=None)
    (tmp_path / "other.txt").write_text("from the laptop")
    done = deployed.call("resume", "r", "--number=5", "--flag=True", '--config={"a": [1]}', "--notes=other.txt")
    assert done.code == 0, done.output
    found = terminal.parameters("ParametersFlow", deployed.run_id())
    assert (found["number"], found["flag"], found["config"]) == (5, True, {"a": [1]})
    assert found["notes"].decode("notes") == "from the laptop"
    assert "/data/ParametersFlow/" in found["notes"].descriptor["url"]
    refused = deployed.call("resume", "r", "--text=x")
    assert (refused.code, "was made by code without the parameter text" in refused.output) == (1, True), refused.output


def test_a_new_run_takes_over_another(deployed: Deployed) -> None:
    deployed.api.add_run("GroupedFlow", "r", "failed", conf={"text": "a"})
    done = deployed.call("resume", f"--origin-run-id={deployed.run_id()}", "--step-to-rerun=collect", "--text=b")
    assert done.code == 0, done.output
    assert deployed.api.runs["GroupedFlow"][1]["conf"] == {
        "text": "b",
        "metaflow_resume": {"origin": deployed.run_id(), "step": "collect", "given": ["text"]},
    }


def test_a_run_that_others_have_made_is_taken_over_from_the_datastore(
    terminal: CommandLine, api: AirflowApi, flows: Path
) -> None:
    """Airflow knew no such run, so that a run of `python flow.py run` or of Argo Workflows could not be resumed."""
    deployed = Deployed(terminal, api, flows, "events/on_event", "OnEventFlow")
    assert "has no run 17" in deployed.call("resume", "--origin-run-id=17").output
    terminal.save_parameters("OnEventFlow", "17", alpha=2.5, text="t")
    done = deployed.call("resume", "--origin-run-id=OnEventFlow/17", "--text=mine")
    assert done.code == 0, done.output
    # Airflow insists on `alpha`, which has no default; all else the run takes over itself.
    assert api.runs["OnEventFlow"][0]["conf"] == {
        "alpha": 2.5, "text": "mine", "metaflow_resume": {"origin": "17", "step": None, "given": ["text"]},
    }  # fmt: skip
    assert "belongs to the flow Other" in deployed.call("resume", "--origin-run-id=Other/17").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either RUN_ID"),
        (("r", "--origin-run-id=r"), "Give either RUN_ID"),
        (("r", "--step-to-rerun=boddy"), "has no step 'boddy' to run again"),
        (("r", "--text=b"), "has stored no parameters; start a new one."),
        (("--origin-run-id=r", "--step-to-rerun=boddy"), "has no step 'boddy' to run again"),
        (("--origin-run-id=x",), "has no run x"),
    ],
)
def test_a_resume_that_asks_for_two_things_or_none_is_refused(
    deployed: Deployed, arguments: tuple[str, ...], message: str
) -> None:
    deployed.api.add_run("GroupedFlow", "r", "failed")
    done = deployed.call("resume", *arguments)
    assert (done.code, message in done.output) == (1, True), done.output
    assert len(deployed.api.runs["GroupedFlow"]) == 1


def test_a_deployment_is_deleted_by_its_owner_when_no_run_goes_on(deployed: Deployed) -> None:
    deployed.api.add_run("GroupedFlow", "r")
    assert "their production token is needed" in deployed.call("delete", user="mallory").output
    assert "1 runs of GroupedFlow are running" in deployed.call("delete").output
    assert len(list(deployed.folder.iterdir())) == 2
    deployed.api.runs["GroupedFlow"][0]["state"] = "success"
    done = deployed.call("delete")
    assert "The deployment GroupedFlow was deleted." in done.output
    assert list(deployed.folder.iterdir()) == []
    assert "there is no deployment at" in deployed.call("delete").output


def test_a_deployment_that_was_changed_by_hand_or_is_of_another_flow_is_not_deleted(
    deployed: Deployed, flows: Path
) -> None:
    file = deployed.folder / "GroupedFlow.py"
    other = deployed.terminal.run(flows / "linear.py", "airflow", "delete", str(file))
    assert "was not written by `airflow create` of LinearFlow" in other.output
    file.write_text(file.read_text() + "# mine\n")
    assert "or was changed since. Remove it by hand." in deployed.call("delete").output
    assert file.exists()


def test_without_an_airflow_a_deployment_is_deleted_with_a_warning(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAFLOW_AIRFLOW_URL")
    done = deployed.call("delete")
    assert (done.code, "Warning: METAFLOW_AIRFLOW_URL is not set" in done.output) == (0, True)
    assert list(deployed.folder.iterdir()) == []


def test_the_connections_of_a_deployment_go_with_it(deployed: Deployed) -> None:
    deployed.call("create", "--notify-on-error", "--notify-slack-webhook-url=https://x")
    assert list(deployed.api.connections) == ["metaflow.GroupedFlow.slack"]
    assert "Removed the connection metaflow.GroupedFlow.slack" in deployed.call("delete").output
    assert deployed.api.connections == {}
