"""The verbs of `python flow.py argo` and `sfn`: what they ask of the adapters, and what they print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import CommandLine, Result

from metaflow_adapters.argo.runs import runs as argo_runs
from metaflow_adapters.step_functions.deploy import deployments
from metaflow_adapters.step_functions.runs import runs as sfn_runs
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli import adapter_runs
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.argo import runs as argo_group_runs
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.sfn import runs as sfn_group_runs
from metaflow_orchestration.exceptions import InvalidOptionError


class Runs:
    """Notes what is asked for, in the place of the runs of an orchestrator."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.found: Any = {}
        self.refusal: str | None = None

    def __call__(self, _: object, name: str, flow: str) -> Runs:
        self.asked.append((name, flow))
        return self

    def _note(self, *given: Any) -> str:
        if self.refusal is not None:
            raise InvalidOptionError(self.refusal)
        self.asked.append(given)
        return "run-1"

    def start(self, values: dict[str, str]) -> str:
        return self._note("start", values)

    def resume(
        self, run_id: str, caller: Any, rerun: tuple[str, ...], given: dict[str, str], *, stored: Callable[[], Any]
    ) -> str:
        self.stored = stored
        return self._note("resume", run_id, caller.user, caller.token, rerun, given)

    def redrive(self, run_id: str, caller: Any) -> str:
        return self._note("redrive", run_id, caller.user, caller.token)

    def check_ended(self, run_id: str, caller: Any) -> None:
        self._note("check_ended", run_id, caller.user, caller.token)

    def find(self, run_id: str) -> Any:
        self._note("find", run_id)
        return self.found

    def map_lines(self, found: Any) -> Iterator[str]:
        assert found is self.found
        yield "split *1*: error"

    def every(self, statuses: list[str] | None = None) -> list[Any]:
        self._note("every", statuses)
        return list(self.found)

    def logs(self, run_id: str, step: str | None) -> Iterator[tuple[str, str]]:
        self._note("logs", run_id, step)
        yield "pod-1", "*a line*"

    def terminate(self, run_id: str, caller: Any) -> None:
        self._note("terminate", run_id, caller.user, caller.token)

    def suspend(self, run_id: str, caller: Any) -> None:
        self._note("suspend", run_id, caller.user, caller.token)

    def unsuspend(self, run_id: str, caller: Any) -> None:
        self._note("unsuspend", run_id, caller.user, caller.token)

    def delete(self, caller: Any) -> None:
        self._note("delete", caller.user, caller.token)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(argo_runs, "ArgoRuns", made)
    monkeypatch.setattr(sfn_runs, "SfnRuns", made)
    return made


class Flow:
    def __init__(self, terminal: CommandLine, file: Path, group: str) -> None:
        self.terminal, self.file, self.group = terminal, file, group

    def call(self, *arguments: str, user: str = "alice") -> Result:
        return self.terminal.run(self.file, self.group, *arguments, user=user)


@pytest.fixture
def argo(terminal: CommandLine, flows: Path) -> Flow:
    return Flow(terminal, flows / "grouped.py", "argo")


@pytest.fixture
def sfn(terminal: CommandLine, flows: Path) -> Flow:
    return Flow(terminal, flows / "grouped.py", "sfn")


@pytest.mark.parametrize(("group", "name"), [("argo", "groupedflow"), ("sfn", "GroupedFlow")])
def test_a_run_is_started_with_the_parameters_that_were_given(
    terminal: CommandLine, flows: Path, tmp_path: Path, runs: Runs, group: str, name: str
) -> None:
    flow = Flow(terminal, flows / "grouped.py", group)
    done = flow.call("trigger", "--text", "x", "--run-id-file=id", "--deployer-attribute-file=told.json")
    assert done.code == 0, done.output
    assert runs.asked == [(name, "GroupedFlow"), ("start", {"text": "x"})]
    assert "(run-id run-1)" in done.output
    assert (tmp_path / "id").read_text() == "run-1"
    assert json.loads((tmp_path / "told.json").read_text())["pathspec"] == "GroupedFlow/run-1"
    flow.call("trigger")
    assert runs.asked[-1] == ("start", {})


@pytest.mark.parametrize(("patience", "code"), [(30.0, 0), (0.0, 1)])
def test_a_run_that_aws_does_not_know_yet_is_waited_for(
    sfn: Flow, runs: Runs, monkeypatch: pytest.MonkeyPatch, patience: float, code: int
) -> None:
    monkeypatch.setattr(adapter_runs, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(sfn_group_runs.SfnGroupRuns, "unknown_seconds", patience)
    answers = iter([InvalidOptionError("there is no run 'run-1'."), {"status": "RUNNING"}, {"status": "SUCCEEDED"}])

    def find(run_id: str) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(runs, "find", find)
    done = sfn.call("trigger", "--wait")
    assert done.code == code, done.output
    assert ("SUCCEEDED" in done.output, "there is no run" in done.output) == (code == 0, code == 1)


@pytest.mark.parametrize("group", ["argo", "sfn"])
@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        (("terminate", "r"), ("terminate", "r")),
        (("suspend", "r"), ("suspend", "r")),
        (("unsuspend", "r"), ("unsuspend", "r")),
        (("delete",), ("delete",)),
        (("resume", "r"), ("resume", "r")),
        (("resume", "r", "--redrive"), ("redrive", "r")),
    ],
)
def test_a_change_tells_who_asks_and_with_which_token(
    terminal: CommandLine, flows: Path, runs: Runs, group: str, verb: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    only = {"suspend": "argo", "unsuspend": "argo", "redrive": "sfn"}.get(asked[0], group)
    flow = Flow(terminal, flows / "grouped.py", group)
    done = flow.call(*verb, "--authorize=production:t0ken", user="bob")
    if only != group:
        assert done.code != 0
        assert len(runs.asked) == 0
        return
    assert done.code == 0, done.output
    assert runs.asked[-1][: len(asked) + 2] == (*asked, "bob", "t0ken")
    flow.call(*verb, user="bob")
    assert runs.asked[-1][: len(asked) + 2] == (*asked, "bob", None)
    runs.refusal = "not yours"
    refused = flow.call(*verb, user="bob")
    assert (refused.code, "not yours" in refused.output, "Traceback" in refused.output) == (1, True, False)


@pytest.mark.parametrize("group", ["argo", "sfn"])
def test_a_step_to_run_again_takes_all_that_follow_it_along(
    terminal: CommandLine, flows: Path, runs: Runs, group: str
) -> None:
    flow = Flow(terminal, flows / "grouped.py", group)
    flow.call("resume", "r", "--step-to-rerun=body")
    assert set(runs.asked[-1][-2]) == {"body", "collect", "end"}
    flow.call("resume", "r")
    assert runs.asked[-1][-2] == ()
    count = len(runs.asked)
    done = flow.call("resume", "r", "--step-to-rerun=boddy")
    assert (done.code, "boddy" in done.output) == (1, True)
    assert not any(one[0] == "resume" for one in runs.asked[count:])


@pytest.mark.parametrize("group", ["argo", "sfn"])
def test_a_run_is_resumed_with_the_parameters_that_were_given(
    terminal: CommandLine, flows: Path, tmp_path: Path, runs: Runs, group: str
) -> None:
    """They were refused as unknown options, so that a run that failed by its parameters could not be resumed."""
    (tmp_path / "notes.txt").write_text("the default of a file parameter")
    flow = Flow(terminal, flows / "files" / "parameters.py", group)
    # `required` is the other run's.
    done = flow.call("resume", "--origin-run-id=ParametersFlow/r", "--number", "5", "--config", '{"a": 1}')
    assert done.code == 0, done.output
    assert runs.asked[-1] == ("resume", "r", "alice", None, (), {"number": "5", "config": '{"a": 1}'})
    # Of a run that the orchestrator does not know, the datastore knows what must be given.
    assert runs.stored() is None
    terminal.save_parameters("ParametersFlow", "r", required="the other run's", number=7)
    assert runs.stored() == {"required": "the other run's"}
    for arguments, told in (
        (("r", "--number", "five"), "five is not a valid integer"),
        (("r", "--nmuber", "5"), "no such option: --nmuber"),
        ((), "Give the run to resume, by RUN_ID or by --origin-run-id"),
        (("r", "--origin-run-id=r"), "Give the run to resume, by RUN_ID or by --origin-run-id"),
        (("OtherFlow/r",), "the run OtherFlow/r belongs to the flow OtherFlow"),
    ):
        count = len(runs.asked)
        refused = flow.call("resume", *arguments)
        assert (refused.code != 0, told in refused.output) == (True, True), refused.output
        assert not any(one[0] == "resume" for one in runs.asked[count:])
        if len(arguments) == 3:
            # The message is that of a trigger.
            same = flow.call("trigger", "--required=x", *arguments[1:])
            assert told in same.output


@pytest.mark.parametrize(
    ("group", "statuses", "code"),
    [
        ("argo", ["Pending", "Running", "Running", "Suspended", "Succeeded"], 0),
        ("argo", ["Running", "Failed"], 1),
        ("sfn", ["RUNNING", "RUNNING", "SUCCEEDED"], 0),
        ("sfn", ["RUNNING", "TIMED_OUT"], 1),
        ("sfn", ["ABORTED"], 1),
    ],
)
@pytest.mark.parametrize("verb", [("trigger", "--wait"), ("resume", "run-1", "--wait"), ("status", "run-1", "--watch")])
def test_a_run_is_waited_for_and_its_failure_is_the_exit_code(
    terminal: CommandLine,
    flows: Path,
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    group: str,
    statuses: list[str],
    code: int,
    verb: tuple[str, ...],
) -> None:
    left = iter(statuses)

    def find(_: str) -> Any:
        runs.found = {"status": next(left)}
        return runs.found

    monkeypatch.setattr(runs, "find", find)
    monkeypatch.setattr(argo_runs, "status_of", lambda found: found["status"])
    monkeypatch.setattr(adapter_runs, "WATCH_SECONDS", 0)
    done = Flow(terminal, flows / "grouped.py", group).call(*verb)
    assert done.code == code, done.output
    assert statuses[-1] in done.output.splitlines()
    assert list(left) == []


def document(result: Result) -> Any:
    """Return what a verb has printed with `--json`; messages go to the standard error, which is in front of it here."""
    assert result.code == 0, result.output
    return json.loads(re.split(r"^(?=[\[{])", result.output, maxsplit=1, flags=re.MULTILINE)[1])


def test_verbs_that_show_something_print_json(
    argo: Flow, sfn: Flow, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argo_runs, "status_of", lambda found: found)
    monkeypatch.setattr(argo_runs, "deployed_templates", lambda *_: iter(["a", "b"]))
    monkeypatch.setattr(deployments, "deployed_machines", lambda *_: iter(["c"]))
    runs.found = "Running"
    assert document(argo.call("status", "argo-1", "--json")) == {"run": "GroupedFlow/argo-1", "status": "Running"}
    runs.found = [("argo-1", "Running", "2026-01-01T00:00:00Z")]
    assert document(argo.call("list-runs", "--json")) == [
        {"run": "GroupedFlow/argo-1", "status": "Running", "created": "2026-01-01T00:00:00Z"}
    ]
    assert document(argo.call("list-workflow-templates", "--json")) == ["a", "b"]
    runs.found = {"status": "FAILED", "error": "E", "cause": "*why*"}
    assert document(sfn.call("status", "sfn-1", "--json")) == {
        "run": "GroupedFlow/sfn-1", **runs.found, "splits": ["split *1*: error"],
    }  # fmt: skip
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)
    runs.found = [{"name": "1", "startDate": began, "status": "RUNNING"}]
    assert document(sfn.call("list-runs", "--json")) == [
        {"run": "GroupedFlow/sfn-1", "status": "RUNNING", "started": "2026-01-01T00:00:00+00:00", "ended": None}
    ]
    assert document(sfn.call("list-deployments", "--json")) == ["c"]


def test_logs_are_printed_byte_for_byte(argo: Flow, sfn: Flow, runs: Runs) -> None:
    for flow in (argo, sfn):
        assert "pod-1: *a line*\n" in flow.call("logs", "r", "--step=body").output
        assert runs.asked[-1] == ("logs", "r", "body")


def test_argo_shows_runs_and_templates(argo: Flow, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.found = [("argo-1", "Running", "2026-01-01T00:00:00Z")]
    assert "2026-01-01T00:00:00Z  Running    argo-1\n" in argo.call("list-runs").output
    monkeypatch.setattr(argo_runs, "status_of", lambda found: f"status of {found}")
    runs.found = "it"
    assert "status of it\n" in argo.call("status", "r").output
    monkeypatch.setattr(argo_runs, "deployed_templates", lambda _, flow: [f"of {flow}"])
    assert "of GroupedFlow\n" in argo.call("list-workflow-templates").output
    assert "of None\n" in argo.call("list-workflow-templates", "--all").output


def test_argo_tells_where_its_user_interface_has_a_run(argo: Flow, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "user interface" not in argo.call("trigger").output
    monkeypatch.setattr(argo_group_runs, "ARGO_WORKFLOWS_UI_URL", "https://argo/")
    assert "https://argo/workflows/default/run-1" in argo.call("trigger").output


def test_step_functions_shows_runs_with_their_times_and_why_they_failed(
    sfn: Flow, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=timezone.utc)
    runs.found = [
        {"name": "1", "startDate": began, "stopDate": began, "status": "FAILED"},
        {"name": "2", "startDate": began, "status": "RUNNING"},
    ]
    output = sfn.call("list-runs", "--failed", "--timed-out").output
    assert "sfn-1 startedAt:'2026-01-01 00:00:00+00:00' stoppedAt:'2026-01-01 00:00:00+00:00' FAILED\n" in output
    assert "sfn-2 startedAt:'2026-01-01 00:00:00+00:00' RUNNING\n" in output
    assert runs.asked[-1] == ("every", ["FAILED", "TIMED_OUT"])
    runs.found = []
    assert "No ABORTED executions for GroupedFlow found" in sfn.call("list-runs", "--aborted").output
    runs.found = {"status": "FAILED", "error": "States.TaskFailed", "cause": "*why*"}
    assert "FAILED\nerror: States.TaskFailed\ncause: *why*\nsplit *1*: error\n" in sfn.call("status", "r").output
    monkeypatch.setattr(deployments, "deployed_machines", lambda _, flow: [f"of {flow}"])
    assert "of GroupedFlow\n" in sfn.call("list-deployments").output
    assert "of None\n" in sfn.call("list-deployments", "--all").output


def test_a_redrive_runs_no_step_again(sfn: Flow, runs: Runs) -> None:
    done = sfn.call("resume", "r", "--redrive", "--step-to-rerun=body")
    assert (done.code, "--redrive continues where the run failed" in done.output) == (1, True)
    assert runs.asked == [("GroupedFlow", "GroupedFlow")], "nothing but which state machine it is"


def test_a_redrive_with_other_parameters_stores_them_before_the_run_goes_on(
    sfn: Flow, runs: Runs, terminal: CommandLine, tmp_path: Path
) -> None:
    assert "has stored no parameters; start a new one" in sfn.call("resume", "r", "--redrive", "--text=b").output
    assert not any(one[0] == "redrive" for one in runs.asked)
    terminal.save_parameters("GroupedFlow", "r", text="a", other=1)
    done = sfn.call("resume", "r", "--redrive", "--text=b")
    assert done.code == 0, done.output
    assert [one[:2] for one in runs.asked[-2:]] == [("check_ended", "r"), ("redrive", "r")]
    assert terminal.parameters("GroupedFlow", "r") == {"text": "b", "other": 1}
    # All jobs of the run read it, and see that their inputs may have other parameters.
    assert json.loads((tmp_path / ".metaflow/mf.sfn/GroupedFlow/r/record").read_text()) == {"changed": True}
    runs.refusal = "the run r has not ended"
    assert "the run r has not ended" in sfn.call("resume", "r", "--redrive", "--text=c").output
    assert terminal.parameters("GroupedFlow", "r") == {"text": "b", "other": 1}
