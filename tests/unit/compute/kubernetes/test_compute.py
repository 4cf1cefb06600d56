"""Metaflow tasks in pods, by Airflow's own pod operator against an API over loopback HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.containers import inputs_of, told, work
from tests.support.kubernetes_api import KubernetesApi, Pod, ended, kubernetes_api, running
from tests.support.manifests import SHA
from tests.support.task_runs import FlowRun, MemoryMetaflow, at

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError, StepNotRunnableError
from metaflow_orchestration.graph.identity import airflow_run_id, position_in_step, run_number
from metaflow_orchestration.graph.model import Retry
from metaflow_orchestration.run.commands import StepCall

Pods = Callable[..., FlowRun]
Document = dict[str, Any]
RUN = airflow_run_id("LinearFlow", "manual__1")
ONCE_MORE = {"start": {"retry": Retry(user=1)}, "middle": {"retry": Retry(user=1)}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with kubernetes_api(tmp_path) as (served, _):
        yield served


@pytest.fixture
def pods(remote_dag: Callable[..., DAG], api: KubernetesApi, metaflow: MemoryMetaflow, tmp_path: Path) -> Pods:
    """Starts a run whose steps are pods."""

    def make(shape: str = "linear", steps: Any = None, **options: Any) -> FlowRun:
        kubernetes = {"config_file": str(tmp_path / "kubeconfig"), "in_cluster": False, "get_logs": False, **options}
        dag = remote_dag(shape, steps, compute="kubernetes", kubernetes=kubernetes)
        api.start = lambda pod: ended(*work(metaflow, dag, document(pod)))(pod)
        return FlowRun(dag)

    return make


def environment(pod: Pod) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}


def document(pod: Pod) -> Document:
    return told(environment(pod))


def names(api: KubernetesApi) -> list[str]:
    found = [document(pod) for pod in api.made]
    return [f"{one['step']}/{position_in_step(one['step'], one['tasks'][0]['task_id'])}" for one in found]


def lose(run: FlowRun, api: KubernetesApi, status: Callable[[Pod], None], step: str = "start") -> Pod:
    """Let a try make its pods and lose its worker: they stay, in a state that nobody has seen."""
    begin, made, jobs = api.start, len(api.made), dict(api.jobs)
    api.start = ended(1)
    api_run = api._run
    api._run = lambda job: (jobs.update({job["metadata"]["name"]: job}), api_run(job))[1]  # type: ignore[method-assign]
    assert run.run(step) == "up_for_retry"
    api.start, api._run = begin, api_run  # type: ignore[method-assign]
    api.jobs.update(jobs)
    for job in jobs.values():
        job["status"]["conditions"][0]["type"] = "Complete"
    left = [api.add(json.loads(json.dumps(pod)), status) for pod in api.made[made:]]
    for pod in left:
        pod["metadata"]["labels"].pop("already_checked", None)
    api.deleted.clear()
    return left[0]


# A task in a pod.


def test_a_step_is_one_pod_that_is_told_its_task_and_deleted_at_the_end(pods: Pods, api: KubernetesApi) -> None:
    run = pods()
    run.run_all("start", "middle", "end")
    start, middle, end = map(document, api.made)
    assert [one["step"] for one in (start, middle, end)] == ["start", "middle", "end"]
    assert f"--run-id={RUN}" in start["init"]["arguments"]
    assert "init" not in middle
    assert inputs_of(end) == ["middle/t"]
    assert (middle["attempt"], middle["env"]["METAFLOW_RUN_ID"]) == (0, RUN)
    assert middle["env"]["METAFLOW_DEFAULT_DATASTORE"] == "s3"
    assert json.loads(middle["env"]["METAFLOW_ORCHESTRATOR_LINKS"])["airflow-task-id"] == "middle"
    assert environment(api.made[0])["METAFLOW_CODE_URL"] == f"s3://bucket/metaflow/Flow/data/ab/{SHA}"
    assert api.pods == {}


def test_without_a_last_message_the_outcome_is_read_from_the_datastore(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods()
    metaflow.results["start", RUN, "t-start"] = (0, {"task_id": "t-start", "next": ["middle"]})
    api.start = ended(0, "an end of the log, no document")
    run.run_all("start")
    assert run.value("start", key="metaflow")["tasks"][0]["next"] == ["middle"]


def test_a_pod_that_succeeds_without_a_result_is_a_failure(pods: Pods, api: KubernetesApi) -> None:
    run = pods(steps=ONCE_MORE)
    api.start = ended(0)
    failed = run.run("start")
    assert failed == "up_for_retry"
    expected = f"LinearFlow/{RUN}/start/t-start, attempt 0, failed: its pod succeeded but there is no result"
    assert expected in str(failed.error)


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (
            ended(1, json.dumps({"last_lines": ["a", "ValueError: b"]})),
            "up_for_retry",
            "it exited with 1: ValueError: b",
        ),
        (ended(137, ""), "up_for_retry", "it was killed by SIGKILL"),
        (ended(202, "Not again."), "failed", "it exited with 202: Not again"),
        (
            ended(143, status={"reason": "Evicted", "message": "low on memory"}),
            "up_for_retry",
            "Kubernetes evicted its pod: low on",
        ),
        (ended(143, status={"reason": "DeadlineExceeded"}), "up_for_retry", "it ran longer than its time limit"),
    ],
)
def test_a_pod_that_fails_tells_why_and_whether_another_attempt_is_of_use(
    pods: Pods, api: KubernetesApi, status: Callable[[Pod], None], state: str, reason: str
) -> None:
    run = pods(steps=ONCE_MORE)
    api.start = status
    failed = run.run("start")
    assert (failed.state, reason in str(failed.error)) == (state, True), failed.error
    assert api.pods == {}
    assert run.value("start", key="metaflow") is None


def test_an_image_that_cannot_be_pulled_is_told_by_its_reason(pods: Pods, api: KubernetesApi) -> None:
    def unpullable(pod: Pod) -> None:
        running(pod)
        pod["status"]["phase"] = "Pending"
        waiting = {"reason": "InvalidImageName", "message": "couldn't parse image"}
        pod["status"]["containerStatuses"][0]["state"] = {"waiting": waiting}

    run = pods()
    api.start = unpullable
    assert "its image cannot be pulled (InvalidImageName): couldn't parse image" in str(run.run("start").error)
    assert api.pods == {}


def test_a_pod_that_the_api_refuses_is_told_in_the_apis_words(pods: Pods, api: KubernetesApi) -> None:
    run = pods()
    api.refuse["POST", "/pods"] = [422] * 9
    failed = run.run("start")
    assert (failed.state, "the API is out of order" in str(failed.error)) == ("failed", True)


def test_a_pod_that_vanishes_counts_as_its_task_has_ended(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods(steps=ONCE_MORE)
    begin = api.start

    def vanish(pod: Pod) -> None:
        begin(pod)
        api.refuse["GET", "/pods"] = [404] * 40

    api.start = vanish
    run.run_all("start")
    metaflow.outcome = lambda call, done: metaflow.results.clear() or fail(call)
    api.refuse.clear()
    assert run.run("middle") == "up_for_retry"


def fail(call: StepCall, kind: type[StepFailedError] = StepFailedError) -> Document:
    raise kind(f"{at(call)} broke")


def test_a_time_limit_of_airflow_deletes_the_pod(
    pods: Pods, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from airflow_provider_metaflow.compute.kubernetes.operator import MetaflowPodOperator

    def late(*_: object, **__: object) -> None:
        raise AirflowTaskTimeout

    monkeypatch.setattr(MetaflowPodOperator, "await_pod_completion", late)
    # What Airflow's operator does at an end is for ends that it sees.
    monkeypatch.setattr(MetaflowPodOperator, "post_complete_action", lambda *_, **__: None)
    run = pods()
    api.start = running
    assert run.run("start") == "failed"
    assert api.deleted == [f"pods/{api.made[0]['metadata']['name']}"]


def test_what_the_dag_file_says_of_a_pod_wins_over_the_flow(pods: Pods, api: KubernetesApi) -> None:
    override = {"spec": {"priorityClassName": "high", "containers": [{"name": "main", "tty": True}]}}
    run = pods(steps={"start": {"timeout_seconds": 60}}, image="mine:2", memory=512, pod_override=override)
    run.run_all("start")
    (pod,) = api.made
    container = pod["spec"]["containers"][0]
    assert (container["image"], container["resources"]["requests"]["memory"]) == ("mine:2", "512M")
    assert pod["spec"]["priorityClassName"] == "high"
    # The pod's own limit, and that of the process in it, are later than Metaflow's.
    assert pod["spec"]["activeDeadlineSeconds"] == 660
    assert document(pod)["time_limit"] == 120


# Packs and recursion.


def test_a_pack_is_a_pod_per_task_and_its_retry_makes_only_the_missing_one(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    metaflow.splits = 3
    metaflow.outcome = lambda call, done: fail(call) if (at(call), call.attempt) == ("t-1", 0) else done
    run = pods("grouped", {"body": {"retry": Retry(user=1)}})
    run.run_all("start")
    failed = run.run("body", 0)
    assert failed == "up_for_retry"
    assert "1 of 3 packed tasks failed" in str(failed.error)
    assert "it exited with 1: t-1 broke" in str(failed.error)
    run.run_all("body", "collect")
    assert names(api) == ["start/t", "body/t-0", "body/t-1", "body/t-2", "body/t-1", "collect/t"]
    assert inputs_of(document(api.made[-1])) == ["body/t-0", "body/t-1", "body/t-2"]
    assert len({pod["metadata"]["name"] for pod in api.made}) == 6


def test_each_round_of_a_recursion_is_a_pod(pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = lambda call, done: (
        {**done, "next": ["fan" if at(call) == "t-r1" else "loop"]} if call.step.name == "loop" else done
    )
    run = pods("recursion")
    run.run_all("start", "loop", "fan")
    assert names(api) == ["start/t", "loop/t", "loop/t-r1", "fan/t"]
    assert inputs_of(document(api.made[2])) == ["loop/t"]
    assert inputs_of(document(api.made[3])) == ["loop/t-r1"]


# Pods that a try before this one has left behind.


def test_a_pod_that_still_runs_is_watched_on_by_the_next_try(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods(steps=ONCE_MORE)
    left = lose(run, api, running)
    answer = api.answer

    def ends_while_watched(method: str, url: str, body: Any) -> tuple[int, Any]:
        given = answer(method, url, body)
        # Those before that ask for all pods of the task, and find it running.
        if (method, "/pods/" in url) == ("GET", True):
            given = json.loads(json.dumps(given))
            ended(0, json.dumps({"task_id": "t-start", "next": ["middle"]}))(left)
        return given

    api.answer = ends_while_watched  # type: ignore[method-assign]
    run.run_all("start")
    assert len(api.made) == 1
    assert api.deleted == [f"pods/{left['metadata']['name']}"]


def test_a_pod_that_has_succeeded_unseen_is_not_run_again(pods: Pods, api: KubernetesApi) -> None:
    run = pods(steps=ONCE_MORE)
    lose(run, api, ended(0, json.dumps({"task_id": "t-start", "next": ["middle"]})))
    run.run_all("start")
    assert len(api.made) == 1
    assert api.pods == {}


def test_a_pod_that_has_failed_unseen_makes_way_for_the_next_attempt(pods: Pods, api: KubernetesApi) -> None:
    run = pods(steps=ONCE_MORE)
    lose(run, api, ended(1))
    run.run_all("start")
    assert [document(pod)["attempt"] for pod in api.made] == [0, 1]


def test_a_pod_from_before_a_clear_is_deleted_and_the_task_runs_again(pods: Pods, api: KubernetesApi) -> None:
    run = pods(steps=ONCE_MORE)
    left = lose(run, api, ended(0, json.dumps({"task_id": "t-start", "next": ["middle"]})))
    run.clear("start")
    run.run_all("start")
    assert [document(pod)["attempt"] for pod in api.made] == [0, 1]
    assert f"pods/{left['metadata']['name']}" in api.deleted


def test_a_task_with_a_result_whose_pod_is_there_is_seen_to_its_end_and_one_without_is_taken(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods(steps=ONCE_MORE)
    left = lose(run, api, ended(0, json.dumps({"task_id": "t-start", "next": ["middle"]})))
    metaflow.results["start", RUN, "t-start"] = (0, {"task_id": "t-start", "next": ["middle"]})
    run.run_all("start")
    assert f"pods/{left['metadata']['name']}" in api.deleted
    lost = lose(run, api, ended(0), "middle")
    del api.pods[lost["metadata"]["name"]]
    metaflow.results["middle", RUN, "t-middle"] = (0, {"task_id": "t-middle", "next": ["end"]})
    run.run_all("middle")
    assert len(api.made) == 2


# Gangs.


def gang_of(count: int, metaflow: MemoryMetaflow) -> None:
    def outcome(call: StepCall, done: Document) -> Document:
        if call.step.gang:
            done["gang"] = [call.task_id, *(f"{call.task_id}_node_{index}" for index in range(1, count))]
        return done

    metaflow.splits, metaflow.outcome = count, outcome


def test_a_gang_is_a_job_of_as_many_nodes_as_the_step_before_asks_for(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    gang_of(3, metaflow)
    made: list[Document] = []
    api_run = api._run
    api._run = lambda job: (made.append(json.loads(json.dumps(job))), api_run(job))[1]  # type: ignore[method-assign]
    run = pods("parallel")
    run.run_all("start", "train", "gather")
    (job,) = made
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"], spec["backoffLimit"]) == (
        3,
        3,
        "Indexed",
        0,
    )
    assert spec["template"]["spec"]["subdomain"] == job["metadata"]["name"]
    nodes = [pod for pod in api.made if document(pod)["step"] == "train"]
    name = job["metadata"]["name"]
    assert {document(pod)["env"]["MF_MASTER_ADDR"] for pod in nodes} == {f"{name}-0.{name}"}
    assert [document(pod)["gang"] for pod in nodes] == [3, 3, 3]
    assert list(api.services) == [job["metadata"]["name"]]
    assert api.jobs == {}
    assert api.pods == {}
    assert inputs_of(document(api.made[-1])) == ["train/t", "train/t_node_1", "train/t_node_2"]


def test_a_gang_of_one_is_a_pod(pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow) -> None:
    gang_of(1, metaflow)
    run = pods("parallel")
    run.run_all("start", "train")
    assert api.services == {}
    assert "gang" not in document(api.made[-1])
    assert "METAFLOW_RUNTIME_ENVIRONMENT" not in document(api.made[-1])["env"]


def test_a_node_that_fails_fails_its_gang_by_its_number_and_ends_the_others(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    gang_of(2, metaflow)
    run = pods("parallel", {"train": {"retry": Retry(user=1)}})
    run.run_all("start")
    succeed = api.start

    def second_fails(pod: Pod) -> None:
        is_second = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
        (ended(1, "its disk is full") if is_second else succeed)(pod)

    api.start = second_fails
    failed = run.run("train")
    assert failed == "up_for_retry"
    assert "node 1 of its gang failed: it exited with 1: its disk is full" in str(failed.error)
    assert api.jobs == {}
    assert api.pods == {}


def test_a_node_that_asks_for_no_other_attempt_is_the_end_of_the_gang(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    gang_of(2, metaflow)
    run = pods("parallel", {"train": {"retry": Retry(user=1)}})
    run.run_all("start")
    # The control node is ended by Kubernetes because of it.
    api.start = lambda pod: ended(
        202 if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1" else 143
    )(pod)
    failed = run.run("train")
    assert failed == "failed"
    assert "node 1 of its gang failed: it exited with 202" in str(failed.error)


def test_a_gang_that_an_earlier_try_has_left_is_watched_on(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    gang_of(2, metaflow)
    run = pods("parallel", {"train": {"retry": Retry(user=1)}})
    run.run_all("start")
    message = {"task_id": "t-train", "next": ["gather"], "gang": ["t-train", "t-train_node_1"]}
    lose(run, api, ended(0, json.dumps(message)), "train")
    made = len(api.made)
    run.run_all("train")
    assert len(api.made) == made
    assert api.jobs == {}


# Deferral.


def test_a_deferred_task_holds_no_worker_and_goes_on_when_its_pod_has_ended(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods(deferrable=True)
    waiting = run.run("start")
    assert waiting == "deferred"
    assert waiting.message.next_method == "resume"
    assert len(api.pods) == 1
    name = next(iter(api.pods))
    done = run.run("start", resumed=waiting.message, event={"status": "success", "name": name, "namespace": "default"})
    assert (done.state, done.error) == ("success", None)
    assert run.value("start", key="metaflow")["tasks"][0]["next"] == ["middle"]
    assert api.pods == {}


def test_a_deferred_task_of_a_run_made_again_goes_on_in_its_own_run_and_not_in_the_old_one(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    def end(run: FlowRun) -> str:
        waiting = run.run("start")
        event = {"status": "success", "name": next(iter(api.pods)), "namespace": "default"}
        done = run.run("start", resumed=waiting.message, event=event)
        assert (done.state, done.error) == ("success", None)
        return str(run.value("start", key="metaflow")["run_id"])

    assert [end(pods(deferrable=True)) for _ in range(3)] == [RUN, f"{RUN}-2", f"{RUN}-3"]
    assert [document(pod)["run_id"] for pod in api.made] == [RUN, f"{RUN}-2", f"{RUN}-3"]
    assert f"--run-id={RUN}-3" in document(api.made[-1])["init"]["arguments"]


def test_a_task_that_an_older_release_has_deferred_goes_on_in_the_run_it_began(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods(deferrable=True)
    waiting = run.run("start")
    metaflow.records.clear()
    del waiting.message.next_kwargs["progress"]["run_id"]
    name = next(iter(api.pods))
    done = run.run("start", resumed=waiting.message, event={"status": "success", "name": name, "namespace": "default"})
    assert done == "success"
    assert run.value("start", key="metaflow")["run_id"] == RUN


def test_a_pod_of_a_resumed_run_knows_where_the_parameters_of_its_run_are(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    run = pods("grouped")
    run.run_all("start", "body")
    assert "METAFLOW_ORCHESTRATOR_PARAMETERS_TASK" not in document(api.made[-1])["env"]
    assert "inherit" not in document(api.made[0])["init"]
    first, again = run.value("start", key="metaflow")["run_id"], pods("grouped")
    again.dag_run_id, again.conf = "manual__2", {"text": "given", "metaflow_resume": {"origin": first, "step": "start"}}
    again.run_all("start", "body")
    second = again.value("start", key="metaflow")["run_id"]
    start, body = (next(d for d in map(document, reversed(api.made)) if d["step"] == one) for one in ("start", "body"))
    assert start["init"]["inherit"] == {"run": first, "given": ["text"]}
    for one in (start, body):
        assert one["env"]["METAFLOW_ORCHESTRATOR_PARAMETERS_TASK"] == f"{second}/_parameters/t-params"


def test_a_deferred_pack_goes_on_with_its_next_task(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    metaflow.splits = 3
    metaflow.outcome = lambda call, done: fail(call) if at(call) == "t-1" else done
    run = pods("grouped", deferrable=True)
    finish(run, api, "start")
    last = finish(run, api, "body", 0)
    assert last == "failed"
    assert "1 of 3 packed tasks failed" in str(last.error)
    assert names(api) == ["start/t", "body/t-0", "body/t-1", "body/t-2"]


def test_a_deferred_recursion_goes_on_with_its_next_round(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    metaflow.outcome = lambda call, done: (
        {**done, "next": ["fan" if at(call) == "t-r2" else "loop"]} if call.step.name == "loop" else done
    )
    run = pods("recursion", deferrable=True)
    finish(run, api, "start")
    assert finish(run, api, "loop") == "success"
    assert names(api) == ["start/t", "loop/t", "loop/t-r1", "loop/t-r2"]
    assert inputs_of(document(api.made[-1])) == ["loop/t-r1"]


def test_a_deferred_gang_is_waited_for_by_a_trigger_that_knows_its_job(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow
) -> None:
    gang_of(2, metaflow)
    run = pods("parallel", deferrable=True)
    finish(run, api, "start")
    begin, api.start = api.start, running
    waiting = run.run("train")
    assert waiting.message.classpath.endswith("MetaflowGangTrigger")
    (job,) = api.jobs
    assert job in json.dumps(waiting.message.trigger_kwargs)
    for pod in api.pods.values():
        begin(pod)
    api.jobs[job]["status"]["conditions"][0]["type"] = "Complete"
    event = {"status": "success", "name": f"{job}-0", "namespace": "default", "gang": 2}
    assert run.run("train", resumed=waiting.message, event=event) == "success"
    assert api.jobs == {}


def finish(run: FlowRun, api: KubernetesApi, step: str, map_index: int = -1) -> Any:
    """Run a task instance over all its deferrals."""
    last = run.run(step, map_index)
    for _ in range(9):
        if last != "deferred":
            return last
        (pod,) = api.pods.values()
        status = "success" if pod["status"]["phase"] == "Succeeded" else "failed"
        event = {"status": status, "name": pod["metadata"]["name"], "namespace": "default", "message": "m"}
        last = run.run(step, map_index, resumed=last.message, event=event)
    raise AssertionError("It is deferred again and again.")


def test_a_failure_for_good_in_a_deferred_pack_is_remembered(
    pods: Pods, api: KubernetesApi, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    metaflow.outcome = lambda call, done: fail(call, FinalFailureError) if at(call) == "t-0" else done
    run = pods("grouped", {"body": {"retry": Retry(user=2)}}, deferrable=True)
    finish(run, api, "start")
    assert finish(run, api, "body", 0) == "failed"
    assert names(api)[1:] == ["body/t-0", "body/t-1"]


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker cannot read the datastore, which the pods can."""

    def refuse(*_: object) -> None:
        raise StepNotRunnableError("fetching the code package failed: no credentials")

    for name in ("load_record", "save_record", "has_run"):
        monkeypatch.setattr(LocalCompute, name, refuse)


def test_a_worker_that_cannot_reach_the_datastore_gives_each_run_of_an_id_a_metaflow_run(
    pods: Pods, metaflow: MemoryMetaflow, out_of_reach: None
) -> None:
    found = []
    for _ in range(2):
        run = pods()
        run.run_all("start", "middle", "end")
        found.append(run.value("start", key="metaflow_run"))
        assert run.value("end") == f"LinearFlow/{found[-1]}"
    assert len(set(found)) == 2
    assert all(run_number(one, RUN) for one in found)


def test_such_a_worker_runs_a_cleared_task_again(pods: Pods, api: KubernetesApi, out_of_reach: None) -> None:
    run = pods()
    run.run_all("start", "middle")
    run.clear("middle")
    run.run_all("middle", "end")
    assert [document(pod)["step"] for pod in api.made] == ["start", "middle", "middle", "end"]


def test_a_step_on_the_worker_needs_the_datastore(
    make_dag: Callable[..., DAG], metaflow: MemoryMetaflow, out_of_reach: None
) -> None:
    ended = FlowRun(make_dag("linear")).run("start")
    assert ended == "failed"
    assert "no credentials" in str(ended.error)
    assert metaflow.calls == []
