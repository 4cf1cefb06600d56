"""Runs the jobs of moto's AWS Batch as processes of this machine, and adds what moto leaves out.

What moto 5.2.5 does not do and the product needs: run without Docker; `retryStrategy` and `nodeOverrides` of SubmitJob;
exit codes; the state of an array's parent; nodes of a job; the credentials of a job's role.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from .enforcement import REGION, installed
from .shared import key_of

in_process: Callable[[Any, dict[str, str]], tuple[int, str]] | None = None
"""Runs a container in this process, for tests that need no real tasks: of a job and its variables it makes an exit
status and a log."""

SLOTS = threading.BoundedSemaphore(int(os.environ.get("TEST_BATCH_SLOTS", "4")))
POLL_SECONDS = 0.05

_submitted = threading.local()


def install() -> None:
    """Replace how moto runs and describes jobs; once per process, before its server starts."""
    from moto.batch import models, responses

    models.Job.run = _run
    _remember_submission(models, responses)
    _fail_parents(models)
    _leave_overrides_alone(models)


def _remember_submission(models: Any, responses: Any) -> None:
    submit, init = responses.BatchResponse.submitjob, models.Job.__init__

    def submitjob(self: Any) -> Any:
        _submitted.retry = self._get_param("retryStrategy")
        _submitted.nodes = self._get_param("nodeOverrides")
        size = self._get_param("arrayProperties", {}).get("size", 2)
        if not 2 <= size <= 10000:
            raise models.ClientException("Array size must be between 2 and 10000")
        return submit(self)

    def job_init(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self.retry_strategy = getattr(_submitted, "retry", None)
        self.node_overrides = getattr(_submitted, "nodes", None)
        self.processes: list[subprocess.Popen[bytes]] = []

    responses.BatchResponse.submitjob, models.Job.__init__ = submitjob, job_init
    models.BatchBackend.describe_jobs = _describe_jobs


def _describe_jobs(self: Any, jobs: list[str]) -> list[dict[str, Any]]:
    """Jobs by id or ARN; `#2` at the end of an id is a node of a gang (AWS Batch user guide, "Job IDs")."""
    found = []
    for name in jobs:
        job_id, _, node = name.split("/")[-1].partition("#")
        job = self._jobs.get(job_id)
        if job is not None:
            document = job.describe()
            found.append({**document, **_node(job, node)} if node else _with_overrides(job, document))
    return found


def _node(job: Any, node: str) -> dict[str, Any]:
    containers = [{"logStreamName": _node_stream(job, int(node))}] if job.log_stream_name else []
    attempts = [{"container": one} for one in containers]
    return {"jobId": f"{job.job_id}#{node}", "container": (containers or [{}])[0], "attempts": attempts,
            "nodeProperties": {}}  # fmt: skip


def _node_stream(job: Any, node: int) -> str:
    return f"{job._stream_name}-{node}"


def _with_overrides(job: Any, document: dict[str, Any]) -> dict[str, Any]:
    """What a gang's job says of its nodes has the overrides of its submission."""
    nodes, given = document.get("nodeProperties"), job.node_overrides or {}
    if not nodes or not given:
        return document
    (properties,), (override,) = nodes["nodeRangeProperties"], given["nodePropertyOverrides"]
    variables = [*properties["container"].get("environment", []), *override["containerOverrides"]["environment"]]
    ranges = [{**properties, "container": {**properties["container"], "environment": variables}}]
    count = int(given.get("numNodes") or nodes["numNodes"])
    # The log of a gang is that of its nodes.
    return {
        **document,
        "container": {},
        "attempts": [],
        "nodeProperties": {**nodes, "numNodes": count, "nodeRangeProperties": ranges},
    }


def _fail_parents(models: Any) -> None:
    describe = models.Job.describe

    def job_describe(self: Any) -> Any:
        children = self._child_jobs or []
        ended = bool(children) and all(child.job_stopped for child in children)
        if ended and any(child.status == "FAILED" for child in children):
            self.status, self.job_stopped_reason = "FAILED", "Array Child Job failed"
        document = describe(self)
        if getattr(self, "exit_code", None) is not None:
            document.setdefault("container", {})["exitCode"] = self.exit_code
        return document

    models.Job.describe = job_describe


def _leave_overrides_alone(models: Any) -> None:
    """Describing a job adds variables to its overrides in moto, at every call."""
    original = models.Job._get_container_property

    def get_container_property(self: Any, name: str, default: Any) -> Any:
        kept = self.container_overrides
        if name == "environment" and name in kept:
            self.container_overrides = {**kept, name: list(kept[name])}
        try:
            return original(self, name, default)
        finally:
            self.container_overrides = kept

    models.Job._get_container_property = get_container_property


def _run(job: Any) -> None:
    from moto.batch.utils import JobStatus

    try:
        if job.depends_on and not job._wait_for_dependencies():
            return
        job.status = JobStatus.RUNNABLE
        with SLOTS:
            job.job_started_at, job.log_stream_name = datetime.now(), job._stream_name
            job.status = JobStatus.RUNNING
            succeeded = _attempts(job)
        job._mark_stopped(success=succeeded)
    except Exception as error:  # a waiting caller must learn of it
        job.job_stopped_reason = repr(error)
        job._mark_stopped(success=False)


def _attempts(job: Any) -> bool:
    containers = _containers(job)
    retry = job.retry_strategy or job.job_definition.retry_strategy or {}
    for attempt in range(1, int(retry.get("attempts", 1)) + 1):
        job._start_attempt()
        job.exit_code = _attempt(job, attempt, containers)
        job.latest_attempt["container"]["exitCode"] = job.exit_code
        job._stop_attempt()
        _log_to_cloudwatch(job, attempt)
        if job.exit_code == 0 or job.stop or not _is_tried_again(retry, job.exit_code):
            break
    if job.exit_code != 0:
        job.job_stopped_reason = job.job_stopped_reason or "Essential container in task exited"
    return bool(job.exit_code == 0)


def _is_tried_again(retry: dict[str, Any], exit_code: int) -> bool:
    """What the first rule that matches says (AWS Batch, "Automated job retries"); without a match it is tried again."""
    for rule in retry.get("evaluateOnExit", []):
        code, reason = rule.get("onExitCode"), rule.get("onReason")
        if code is not None and not fnmatch.fnmatchcase(str(exit_code), code):
            continue
        if reason is not None and not fnmatch.fnmatchcase("Essential container in task exited", reason):
            continue
        return bool(rule["action"].upper() == "RETRY")
    return True


def _log_to_cloudwatch(job: Any, attempt: int) -> None:
    """Bring a job's output where AWS Batch brings it."""
    is_gang = job.job_definition.type == "multinode"
    for node in range(len(_containers(job))):
        stream = _node_stream(job, node) if is_gang else job._stream_name
        text = (_logs() / f"{job.job_id.replace(':', '-')}-{attempt}-{node}.log").read_text(errors="replace")
        now = int(time.time() * 1000)
        backend, group = job._log_backend, "/aws/batch/job"
        backend.ensure_log_group(group)
        backend.ensure_log_stream(group, stream)
        events = [{"timestamp": now + number, "message": line} for number, line in enumerate(text.splitlines())]
        if events:
            backend.put_log_events(group, stream, events)


def _containers(job: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return properties and overrides of each container; several for a multi-node job."""
    definition = job.job_definition
    if definition.type != "multinode":
        return [(definition.container_properties, job.container_overrides or {})]
    nodes = job.node_overrides or {}
    (properties,) = definition.node_properties["nodeRangeProperties"]
    (override,) = nodes["nodePropertyOverrides"]
    count = int(nodes.get("numNodes") or definition.node_properties["numNodes"])
    return [(properties["container"], override["containerOverrides"])] * count


def _attempt(job: Any, attempt: int, containers: list[tuple[dict[str, Any], dict[str, Any]]]) -> int:
    if in_process is not None:
        return _attempt_here(job, attempt, containers)
    folder = Path(tempfile.mkdtemp(prefix="batch-job-"))
    began, limit = time.monotonic(), job._get_attempt_duration()
    log_folder = _logs()
    for index, (properties, overrides) in enumerate(containers):
        (folder / str(index)).mkdir()
        name = f"{job.job_id.replace(':', '-')}-{attempt}-{index}.log"
        with (log_folder / name).open("wb") as log:
            job.processes.append(
                subprocess.Popen(
                    [*_in_folder(folder / str(index)), *(overrides.get("command") or properties["command"])],
                    cwd=folder / str(index),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=_environment(job, attempt, properties, overrides, index, len(containers)),
                )
            )
    # The main node ends a multi-node job.
    main = job.processes[-len(containers)]
    while main.poll() is None:
        if job.stop or (limit and time.monotonic() - began > limit):
            _kill(job)
        time.sleep(POLL_SECONDS)
    _kill(job)
    shutil.rmtree(folder, ignore_errors=True)
    return main.returncode if main.returncode >= 0 else 128 - main.returncode


def _in_folder(folder: Path) -> list[str]:
    """Return what lets a command see its folder at the path at which other jobs see theirs, as containers do.

    Python finds the bytecode of a module by its path. Only root may mount; the jobs of others compile Metaflow each.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return []
    path = _logs() / "job"
    path.mkdir(exist_ok=True)
    script = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "job", str(folder), str(path)]


def _logs() -> Path:
    """Return the folder for the logs of jobs, which lasts as long as the server."""
    return Path(os.environ.get("TEST_BATCH_LOGS", tempfile.gettempdir()))


def _attempt_here(job: Any, attempt: int, containers: list[tuple[dict[str, Any], dict[str, Any]]]) -> int:
    assert in_process is not None
    log_folder, statuses = _logs(), []
    for index, (properties, overrides) in enumerate(containers):
        status, log = in_process(job, _variables(job, attempt, properties, overrides, index, len(containers)))
        (log_folder / f"{job.job_id.replace(':', '-')}-{attempt}-{index}.log").write_text(log)
        statuses.append(status)
    return statuses[0]


def _kill(job: Any) -> None:
    for process in job.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(
    job: Any, attempt: int, properties: dict[str, Any], overrides: dict[str, Any], index: int, count: int
) -> dict[str, str]:
    environment = {
        # Nothing of this machine's Metaflow or Airflow, nor its credentials.
        **{k: v for k, v in os.environ.items() if not k.startswith(("METAFLOW_", "AIRFLOW", "PYTHON", "AWS_"))},
        "AWS_DEFAULT_REGION": REGION,
        **_credentials(properties.get("jobRoleArn")),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **{
            one["name"]: _secret(one["valueFrom"], properties.get("executionRoleArn"))
            for one in properties.get("secrets", [])
        },
        **_variables(job, attempt, properties, overrides, index, count),
        "AWS_EXECUTION_ENV": "AWS_ECS_LOCAL",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://localhost:{os.environ['MOTO_PORT']}",
        # As in an image that has bytecode: all jobs unpack the same Metaflow, at the same path (`_in_folder`).
        "PYTHONPYCACHEPREFIX": str(_logs() / "bytecode"),
        # As in an image that has what Metaflow needs.
        "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
        # And as in one for tasks of few artifacts: each worker is a process.
        "METAFLOW_S3_WORKER_COUNT": "1",
        # No way out, to the addresses of instance metadata least of all.
        **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),
        "no_proxy": "127.0.0.1,localhost",
    }
    if "TEST_BATCH_JOB_PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["TEST_BATCH_JOB_PYTHONPATH"]
    return environment


def _variables(
    job: Any, attempt: int, properties: dict[str, Any], overrides: dict[str, Any], index: int, count: int
) -> dict[str, str]:
    """The variables that a container has from its definition, its job and AWS Batch."""
    given = [*properties.get("environment", []), *overrides.get("environment", [])]
    found = {
        **{one["name"]: one["value"] for one in given},
        "AWS_BATCH_JOB_ID": job.job_id,
        "AWS_BATCH_JOB_ATTEMPT": str(attempt),
        "AWS_BATCH_CE_NAME": "local",
        "AWS_BATCH_JQ_NAME": job.job_queue.name,
    }
    if "index" in (job.array_properties or {}):
        found["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.array_properties["index"])
    if job.job_definition.type == "multinode":
        found["AWS_BATCH_JOB_NODE_INDEX"] = str(index)
        found["AWS_BATCH_JOB_NUM_NODES"] = str(count)
        found["AWS_BATCH_JOB_MAIN_NODE_INDEX"] = "0"
        if index:
            found["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = "127.0.0.1"
    return found


def _credentials(role: str | None) -> dict[str, str]:
    """Return the credentials of a role that ECS may assume, none without a role."""
    if role is None:
        return {}
    enforced = installed()
    assert enforced is None or "ecs-tasks.amazonaws.com" in enforced.authority[role].trusts, (
        f"ECS was unable to assume the role {role}"
    )
    return {"AWS_ACCESS_KEY_ID": key_of(role), "AWS_SECRET_ACCESS_KEY": "secret-of-a-role"}


def _secret(place: str, role: str | None) -> str:
    """Return what stands under a key of a secret, read by the execution role.

    Its place is `ARN:key::` (ECS, "Pass secrets").
    """
    import boto3

    *arn, key, _, _ = place.split(":")
    given = {name.lower(): value for name, value in _credentials(role).items()}
    url = f"http://localhost:{os.environ['MOTO_PORT']}"
    client = boto3.client("secretsmanager", endpoint_url=url, region_name=REGION, **given)
    found = json.loads(client.get_secret_value(SecretId=":".join(arn))["SecretString"])
    return str(found.get(key, ""))
