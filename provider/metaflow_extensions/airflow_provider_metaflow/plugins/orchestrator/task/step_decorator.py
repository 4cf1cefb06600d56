"""The step decorator by which an orchestrator learns how a task ended."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metaflow import current
from metaflow.decorators import StepDecorator
from metaflow.events import Trigger
from metaflow.metadata_provider import MetaDatum

if TYPE_CHECKING:
    from .task_documents import Outcome

OUTCOME_VARIABLE = "METAFLOW_ORCHESTRATOR_OUTCOME"
"""Environment variable with the path that the outcome document goes to."""

LINKS_VARIABLE = "METAFLOW_ORCHESTRATOR_LINKS"
"""Environment variable with a JSON object of metadata that link the task to the orchestrator's run."""

EVENTS_VARIABLE = "METAFLOW_ORCHESTRATOR_EVENTS"
"""Environment variable with a JSON list of the names of Argo events that the end of the task is told by."""

TRIGGERS_VARIABLE = "METAFLOW_ORCHESTRATOR_TRIGGERS"
"""Environment variable with a JSON list of the events that the run was started by."""

_PROJECT_FIELDS = ("project_name", "branch_name", "is_user_branch", "is_production", "project_flow_name")


class OrchestratorInternalDecorator(StepDecorator):
    """Write the outcome document, link the task to its orchestrator, and keep attempts contiguous."""

    name = "orchestrator_internal"

    def step_init(
        self,
        flow: Any,
        graph: Any,
        step_name: str,
        decorators: Any,
        environment: Any,
        flow_datastore: Any,
        logger: Any,
    ) -> None:
        """Keep what the later hooks need; called by Metaflow in every process."""
        self._flow_datastore = flow_datastore
        self._writes_outcome = True
        self._first = next(iter(decorators), self)
        from .resumed_run import use_own_parameters

        use_own_parameters()
        for one in decorators:
            if one.name == "batch" and "AWS_BATCH_JOB_NODE_INDEX" in os.environ:
                one._wait_for_mapper_tasks = wait_for_gang

    def task_pre_step(
        self,
        step_name: str,
        task_datastore: Any,
        metadata: Any,
        run_id: str,
        task_id: str,
        flow: Any,
        graph: Any,
        retry_count: int,
        max_user_code_retries: int,
        ubf_context: str | None,
        inputs: Any,
    ) -> None:
        """Fill gaps in the attempts and register links; called by Metaflow before user code."""
        from .own_variables import keep_from_children

        keep_from_children(self._first)
        self._run_id, self._task_id = run_id, task_id
        self._task_datastore, self._inputs = task_datastore, inputs
        self._texts: dict[str, str] = {}
        self._error: BaseException | None = None
        # The workers of a local gang inherit the environment of their control task, which alone reports.
        self._writes_outcome = ubf_context != "ubf_task"
        fill_attempt_gaps(self._flow_datastore, run_id, step_name, task_id, retry_count)
        links = json.loads(os.environ.get(LINKS_VARIABLE) or "{}")
        triggers = json.loads(os.environ.get(TRIGGERS_VARIABLE) or "[]")
        if triggers:
            current._update_env({"trigger": Trigger(list(triggers))})
            if step_name == graph.start_step:
                links["execution-triggers"] = json.dumps(triggers)
        if links:
            metadata.register_metadata(
                run_id,
                step_name,
                task_id,
                [
                    MetaDatum(field=name, value=value, type=name, tags=["attempt_id:%d" % retry_count])
                    for name, value in sorted(links.items())
                ],
            )

    def task_post_step(
        self, step_name: str, flow: Any, graph: Any, retry_count: int, max_user_code_retries: int
    ) -> None:
        """Take small values of artifacts, which Metaflow drops when it saves them; called after user code."""
        self._take_values(flow)

    def task_exception(
        self,
        exception: BaseException,
        step_name: str,
        flow: Any,
        graph: Any,
        retry_count: int,
        max_user_code_retries: int,
    ) -> bool:
        """Do the same where user code has failed; False lets the task fail."""
        self._error = exception
        self._take_values(flow)
        return False

    def _take_values(self, flow: Any) -> None:
        from .task_summary import json_texts

        values = {name: value for name, value in vars(flow).items() if not name.startswith("_") and name != "name"}
        self._texts = json_texts(values)

    def task_finished(
        self,
        step_name: str,
        flow: Any,
        graph: Any,
        is_task_ok: bool,
        retry_count: int,
        max_user_code_retries: int,
    ) -> None:
        """Write the summary, and the outcome document of a task that succeeded; its result is durable by now."""
        outcome = None
        if is_task_ok:
            outcome = describe_outcome(lambda name: getattr(flow, name, None), self._task_id, retry_count)
        # The result of the task is durable, so that a summary that cannot be written must not fail it.
        try:
            self._save_summary(step_name, graph, outcome, retry_count)
        except Exception as error:
            print("The summary of the task could not be written: %s" % error, file=sys.stderr)
        if is_task_ok:
            self._publish_events(flow.name, step_name)
        path = os.environ.get(OUTCOME_VARIABLE)
        if not path or not is_task_ok or not self._writes_outcome:
            return
        temporary = "%s.%d" % (path, os.getpid())
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(outcome, file)
        os.replace(temporary, path)

    def _save_summary(self, step_name: str, graph: Any, outcome: Outcome | None, attempt: int) -> None:
        from .task_summary import make_summary, save_summary

        parameters = None
        if step_name == graph.start_step:
            objects = self._inputs[0].ds_metadata["objects"]
            parameters = [name for name in objects if not name.startswith("_") and name != "name"]
        summary = make_summary(
            self._task_datastore,
            outcome=outcome,
            texts=self._texts,
            inputs=self._inputs or (),
            parameters=parameters,
            error=self._error,
        )
        save_summary(self._flow_datastore, self._run_id, step_name, self._task_id, attempt, summary)

    def _publish_events(self, flow_name: str, step_name: str) -> None:
        """Tell of the end of a task by Argo events, with the fields of Metaflow's own deployer."""
        names = json.loads(os.environ.get(EVENTS_VARIABLE) or "[]")
        if not names:
            return
        from metaflow.metaflow_config import ARGO_EVENTS_WEBHOOK_URL
        from metaflow.plugins.argo.argo_events import ArgoEvent

        if not ARGO_EVENTS_WEBHOOK_URL:
            return

        fields = {
            "id": current.pathspec,
            "pathspec": current.pathspec,
            "flow_name": flow_name,
            "run_id": self._run_id,
            "step_name": step_name,
            "task_id": self._task_id,
            "auto-generated-by-metaflow": True,
        }
        for key in _PROJECT_FIELDS:
            if current.get(key):
                fields[key] = current.get(key)
        for name in names:
            event = ArgoEvent(name=name)
            for key, value in fields.items():
                event.add_to_payload(key, value)
            # An event that cannot be sent must not fail the task, whose result is durable by now.
            event.safe_publish(ignore_errors=True)


def describe_outcome(artifact: Callable[[str], Any], task_id: str, attempt: int) -> Outcome:
    """Return the outcome document of a finished task.

    :param artifact: function from the name of an internal artifact to its value or None.
    :param task_id: Metaflow task id.
    :param attempt: the attempt that succeeded.
    """
    transition = artifact("_transition")
    outcome: Outcome = {
        "task_id": task_id,
        "attempt": attempt,
        "next": list(transition[0]) if transition else [],
    }
    if transition and transition[1] == "_parallel_ubf_iter":
        outcome["num_parallel"] = getattr(artifact("_parallel_ubf_iter"), "num_parallel", None)
    elif transition and transition[1]:
        outcome["num_splits"] = artifact("_foreach_num_splits")
        values = artifact("_foreach_values")
        if values:
            outcome["values"] = [str(value) for value in values]
    mappers = [path.rsplit("/", 1)[-1] for path in artifact("_control_mapper_tasks") or ()]
    # A later step sees the list of the gang before it; only the control task stands in its own.
    if task_id in mappers:
        outcome["gang"] = mappers
    return outcome


def fill_attempt_gaps(flow_datastore: Any, run_id: str, step_name: str, task_id: str, attempt: int) -> None:
    """Mark earlier attempts that never reached Metaflow as started.

    A reader of one task looks for attempts 0, 1, ... and stops at the first one missing, so a gap would serve the
    artifacts of an older attempt (measured on Metaflow 2.19.39).
    """
    for number in range(attempt):
        earlier = flow_datastore.get_task_datastore(run_id, step_name, task_id, attempt=number, mode="w")
        if not earlier.has_metadata(earlier.METADATA_ATTEMPT_SUFFIX):
            earlier.init_task()


def wait_for_gang(flow: Any, _step_name: str, seconds: float = 600) -> bool:
    """Wait until the other nodes of a gang on AWS Batch have finished; the end of this one would end them.

    Metaflow's own decorator counts all tasks of the step, and so waits for ever where there are several gangs: inside
    a foreach (``metaflow.plugins.aws.batch.batch_decorator`` 2.19.39, measured).
    """
    from metaflow import Task

    paths = ["%s/%s" % (flow.name, path) for path in flow._control_mapper_tasks]
    end = time.monotonic() + seconds
    print("Waiting for batch secondary tasks to finish")
    while time.monotonic() < end:
        time.sleep(2)
        # A task that has not started is not known yet.
        with contextlib.suppress(Exception):
            if all(Task(path).finished_at is not None for path in paths):
                return True
    raise TimeoutError("Batch secondary workers did not finish in %d seconds" % seconds)
