"""The operator that starts a run of a deployed flow and waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms
from tests.support.task_runs import FlowRun

from airflow_provider_metaflow import MetaflowRunOperator
from airflow_provider_metaflow.hooks import cancel
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from metaflow_orchestration.graph.identity import airflow_run_id


def run_of(states: Iterator[str] | None = None, **arguments: Any) -> FlowRun:
    """Return a run of a DAG whose only task starts a flow; the states are those of the flow's run, look by look."""
    with DAG("outer", schedule=None) as dag:
        MetaflowRunOperator(task_id="run", deployment="proj.branch.Flow", poll_interval=0, **arguments)
    run = FlowRun(dag)
    run.answers["GetDagRunState"] = lambda _: comms.DagRunStateResult(state=next(states or iter(())))
    return run


def started(run: FlowRun) -> list[comms.TriggerDagRun]:
    return [one for one in run.requests if isinstance(one, comms.TriggerDagRun)]


def test_a_run_is_started_here_and_waited_for() -> None:
    run = run_of(iter(["queued", "running", "success"]), parameters={"alpha": 1})
    done = run.run("run")
    assert (done.state, done.error) == ("success", None)
    (asked,) = started(run)
    assert (asked.dag_id, asked.conf) == ("proj.branch.Flow", {"alpha": 1})
    pathspec = f"Flow/{airflow_run_id('proj.branch.Flow', asked.run_id)}"
    assert run.value("run") == pathspec
    assert run.value("run", key="metaflow_pathspec") == pathspec


def test_a_run_that_fails_fails_its_task() -> None:
    failed = run_of(iter(["failed"]), flow="Named").run("run")
    assert failed == "failed"
    assert "ended as failed" in str(failed.error)
    assert "flow Named: the run Named/airflow-" in str(failed.error)


def test_a_run_that_nobody_waits_for_is_only_started() -> None:
    run = run_of(wait_for_completion=False)
    assert run.run("run") == "success"
    assert len(started(run)) == 1
    assert not any(isinstance(one, comms.GetDagRunState) for one in run.requests)


def test_a_start_whose_answer_was_lost_is_no_second_run() -> None:
    run = run_of(iter(["success"]))
    run.answers["TriggerDagRun"] = lambda _: comms.ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS)
    assert run.run("run") == "success"


@pytest.mark.parametrize("is_raised", [True, False])
@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"detail": {"detail": {"reason": "not_found"}}}, "not_found"),
        ({"message": "no such Dag"}, "no such Dag"),
        (None, "{}"),
    ],
)
def test_a_start_that_airflow_refuses_is_told_in_its_words(is_raised: bool, detail: Any, told: str) -> None:
    run = run_of()
    refusal = comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)

    def refuse(_: Any) -> Any:
        if is_raised:
            raise AirflowRuntimeError(refusal)
        return refusal

    run.answers["TriggerDagRun"] = refuse
    failed = run.run("run")
    assert f"Airflow could not start a run of proj.branch.Flow ({told})." in str(failed.error)


@pytest.mark.parametrize(("state", "ends"), [("success", "success"), ("failed", "failed")])
def test_a_deferred_wait_goes_on_with_what_the_trigger_has_seen(state: str, ends: str) -> None:
    run = run_of(deferrable=True)
    waiting = run.run("run")
    assert waiting == "deferred"
    assert waiting.message.classpath.endswith("MetaflowDagRunTrigger")
    (asked,) = started(run)
    event = ("…DagStateTrigger", {"run_ids": [asked.run_id], asked.run_id: state})
    done = run.run("run", resumed=waiting.message, event=event)
    assert done.state == ends
    assert len(started(run)) == 1
    if ends == "success":
        assert run.value("run") == f"Flow/{airflow_run_id('proj.branch.Flow', asked.run_id)}"


class Asked:
    """Answers the questions of the hook."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any]) -> None:
        self.questions: list[dict[str, Any]] = []
        self._answers = iter(answers)
        monkeypatch.setattr(MetaflowHook, "ask", lambda _, op, **question: self._ask(op=op, **question))

    def _ask(self, **question: Any) -> dict[str, Any]:
        self.questions.append(question)
        return next(self._answers)


def test_a_run_of_another_orchestrator_is_started_by_its_deployer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, {"pathspec": "Flow/argo-1"}, {"finished": False}, {"finished": True, "successful": True})
    run = run_of(impl="argo-workflows", parameters={"a": 1})
    assert run.run("run") == "success"
    assert run.value("run") == "Flow/argo-1"
    status = {"op": "status", "deployment": "proj.branch.Flow", "impl": "argo-workflows", "pathspec": "Flow/argo-1"}
    start = {"op": "trigger", "deployment": "proj.branch.Flow", "impl": "argo-workflows", "parameters": {"a": 1}}
    assert asked.questions == [start, status, status]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"error": "no answer"}, "no answer"),
        ({"successful": False, "status": "FAILED"}, "the run Flow/argo-1 ended as FAILED"),
        ({"successful": True}, None),
    ],
)
def test_a_deferred_run_elsewhere_ends_as_it_was_seen_to(
    monkeypatch: pytest.MonkeyPatch, event: dict[str, Any], message: str | None
) -> None:
    Asked(monkeypatch, {"pathspec": "Flow/argo-1"})
    run = run_of(impl="argo-workflows", deferrable=True)
    waiting = run.run("run")
    assert waiting.message.trigger_kwargs["terminate"] is True
    done = run.run("run", resumed=waiting.message, event=event)
    assert done.state == ("success" if message is None else "failed")
    assert message is None or message in str(done.error)


def test_a_kill_ends_the_run_that_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, str]] = []
    monkeypatch.setattr(cancel, "cancel_dag_run", lambda *run: ended.append(run))
    run = run_of(iter(["success"]))
    operator = run.run("run").operator
    operator.on_kill()
    assert ended == [("proj.branch.Flow", started(run)[0].run_id)]
    asked = Asked(monkeypatch, {"pathspec": "Flow/argo-1"}, {})
    operator = run_of(impl="argo-workflows", wait_for_completion=False).run("run").operator
    operator.on_kill()
    assert (asked.questions[-1]["op"], asked.questions[-1]["pathspec"]) == ("terminate", "Flow/argo-1")
    MetaflowRunOperator(task_id="fresh", deployment="d").on_kill()
    assert len(ended) == 1


def lost(run: FlowRun, *states: str) -> None:
    """Let a try die while it waits, as with its worker."""

    def answer(_: Any) -> Any:
        raise ConnectionError("the worker is gone")

    run.answers["GetDagRunState"] = answer
    assert run.run("run") == "up_for_retry"
    left = iter(states)
    run.answers["GetDagRunState"] = lambda _: comms.DagRunStateResult(state=next(left))


@pytest.mark.parametrize("states", [("running", "running", "success"), ("success", "success")])
def test_a_retry_waits_for_the_run_that_an_earlier_try_has_started(states: tuple[str, ...]) -> None:
    run = run_of(retries=2)
    lost(run, *states)
    done = run.run("run")
    assert (done.state, done.error) == ("success", None)
    (asked,) = started(run)
    assert run.value("run") == f"Flow/{airflow_run_id('proj.branch.Flow', asked.run_id)}"
    # A clear is for another run.
    run.clear("run")
    run.answers["GetDagRunState"] = lambda _: comms.DagRunStateResult(state="success")
    assert run.run("run") == "success"
    assert len({one.run_id for one in started(run)}) == 2


def test_a_clear_of_the_running_task_starts_another_run() -> None:
    """Airflow grants no more tries then, so it waited for the run of before, and a success of that was this task's."""
    run = run_of(retries=2)

    def cleared(_: Any) -> Any:
        run.clear("run")
        raise ConnectionError("the task was ended")

    run.answers["GetDagRunState"] = cleared
    assert run.run("run") == "up_for_retry"
    run.answers["GetDagRunState"] = lambda _: comms.DagRunStateResult(state="success")
    assert run.run("run") == "success"
    assert len({one.run_id for one in started(run)}) == 2


def test_other_retries_in_a_later_version_of_the_dag_file_start_no_second_run() -> None:
    run = run_of(retries=1)
    lost(run, "running", "success")
    run.dag.get_task("run").retries = 0
    assert run.run("run") == "success"
    assert len(started(run)) == 1


def test_a_retry_after_a_run_that_failed_or_is_gone_starts_another() -> None:
    run = run_of(iter(["failed", "failed", "success"]), retries=2)
    assert run.run("run") == "up_for_retry"
    assert run.run("run") == "success"
    assert len({one.run_id for one in started(run)}) == 2

    run = run_of(retries=2)
    lost(run)

    def gone(_: Any) -> Any:
        run.answers["GetDagRunState"] = lambda _: comms.DagRunStateResult(state="success")
        raise AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR))

    run.answers["GetDagRunState"] = gone
    assert run.run("run") == "success"
    assert len(started(run)) == 2


def test_a_retry_waits_for_the_run_of_another_orchestrator_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(
        monkeypatch, {"pathspec": "Flow/argo-1"}, {"error": "no answer", "finished": True, "successful": False},
        {"finished": False}, {"finished": True, "successful": True},
    )  # fmt: skip
    run = run_of(impl="argo-workflows", retries=1)
    assert run.run("run") == "up_for_retry"
    assert run.run("run") == "success"
    assert [one["op"] for one in asked.questions] == ["trigger", "status", "status", "status"]
    assert run.value("run") == "Flow/argo-1"


def test_a_deployment_that_is_not_named_after_its_flow_gives_the_pathspec_of_the_flow() -> None:
    with DAG("outer", schedule=None) as dag:
        MetaflowRunOperator(task_id="run", deployment="nightly-train", poll_interval=0)
    run = FlowRun(dag)
    run.answers["GetDagRunState"] = lambda _: comms.DagRunStateResult(state="success")
    states = [("start", "success"), ("train", "skipped"), ("finish", "success")]
    run.answers["GetTaskBreadcrumbs"] = lambda _: comms.TaskBreadcrumbsResult(
        breadcrumbs=[{"task_id": task, "state": state, "operator": "MetaflowStepOperator"} for task, state in states]
    )

    def value(message: comms.GetXComSequenceSlice) -> comms.XComSequenceSliceResult:
        run_id = airflow_run_id("nightly-train", message.run_id)
        values = {"start": [{"splits": [0]}], "finish": f"TrainFlow/{run_id}"}
        return comms.XComSequenceSliceResult(root=[values[message.task_id]])

    run.answers["GetXComSequenceSlice"] = value
    assert run.run("run") == "success"
    expected = f"TrainFlow/{airflow_run_id('nightly-train', started(run)[0].run_id)}"
    assert run.value("run") == run.value("run", key="metaflow_pathspec") == expected
