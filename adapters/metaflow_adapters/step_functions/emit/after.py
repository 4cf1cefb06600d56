"""The state machine that follows a run: functions of ``@exit_hook``, and notifications of its end.

AWS sends an event when an execution ends, however it ends; a rule starts this machine with it. So what comes after a
run costs the run nothing, and neither hides its failure nor makes one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from metaflow_adapters.documents import Aside, notice
from metaflow_adapters.notifications import notified_endpoints
from metaflow_adapters.step_functions.language.asl import Definition
from metaflow_adapters.step_functions.language.definition import machine_of
from metaflow_adapters.step_functions.language.jsonata import evaluated, literal, text
from metaflow_adapters.step_functions.language.retries import Catcher
from metaflow_adapters.step_functions.language.states import Choice, Fail, Parallel, Scope, State, Succeed, Task
from metaflow_orchestration.containers.command import TASK_VARIABLE, encode_inline
from metaflow_orchestration.documents.manifest import Manifest

from .submission import RUN_ID, Job, as_data, service, submission, throttled

SUCCEEDED = ["SUCCEEDED"]
FAILED = ["FAILED", "TIMED_OUT", "ABORTED"]

_RUN = "'sfn-' & $states.input.detail.name"
_CAUSE_LENGTH = 400
_VERDICT = "check for failures"
_DONE = "done"


def after_definition(manifest: Manifest, job: Job, partition: str) -> Definition | None:
    """Return the definition of the machine, None if nothing follows a run.

    :param manifest: the compiled flow.
    :param job: the job that all of it runs in.
    :param partition: partition of AWS.
    """
    on_success = list(_branches(manifest, job, partition, succeeded=True))
    on_failure = list(_branches(manifest, job, partition, succeeded=False))
    if not on_success and not on_failure:
        return None
    states: list[State] = []
    ways = {}
    for name, tasks in (("success", on_success), ("failure", on_failure)):
        ways[name] = name if tasks else _DONE
        if tasks:
            failed = evaluated("{'failed':$states.result.failed}")
            branches = tuple(_alone(one) for one in tasks)
            states.append(Parallel(name=name, branches=branches, next=_VERDICT, output=failed))
    cause = evaluated("$join($states.input.failed,', ') & ' failed.'")
    states += [
        Choice(name=_VERDICT, rules=((evaluated("$exists($states.input.failed)"), "failed"),), default=_DONE),
        Fail(name="failed", error="Metaflow.AfterRunFailed", cause=cause),
        Succeed(name=_DONE),
    ]
    rule = (evaluated("$states.input.detail.status = 'SUCCEEDED'"), ways["success"])
    choice = Choice(name="check status of run", rules=(rule,), default=ways["failure"])
    comment = f"Follows the runs of the Metaflow flow {manifest.graph.name}."
    scope = Scope(start=choice.name, states=(choice, *states))
    return machine_of(scope, manifest.graph.name, Comment=comment)


def _alone(task: Task) -> Scope:
    """Return the scope of a task whose failure does not stop the others, as that of a branch would."""
    failed = f"{task.name} failed"
    caught = dataclasses.replace(task, catch=(Catcher(errors=("States.ALL",), next=failed),))
    return Scope(start=task.name, states=(caught, Succeed(name=failed, output={"failed": task.name})))


def followed(definition: Definition) -> list[str]:
    """Return the statuses of runs that something follows.

    :param definition: definition of the machine.
    """
    states = definition["States"]
    return [*(SUCCEEDED if "success" in states else []), *(FAILED if "failure" in states else [])]


def needs_secrets(manifest: Manifest) -> bool:
    """Tell whether the job needs the secrets of endpoints.

    :param manifest: the compiled flow.
    """
    return bool(notified_endpoints(manifest.deployment.notifications))


def _branches(manifest: Manifest, job: Job, partition: str, *, succeeded: bool) -> Iterator[Task]:
    kind = "success" if succeeded else "error"
    for number, hook in enumerate(manifest.graph.exit_hooks):
        if hook.on_success == succeeded:
            yield _job(f"exit hook {number} on {kind}", job, {"function": hook.function}, partition)
    notifications = manifest.deployment.notifications
    if notifications is None or not (notifications.on_success if succeeded else notifications.on_error):
        return
    if needs_secrets(manifest):
        document = notice(manifest.deployment.name, notifications, succeeded=succeeded)
        document["orchestrator"] = "step-functions"
        yield _job(f"notify on {kind}", job, document, partition, with_cause=not succeeded)
    if notifications.sns_topic:
        yield _sns(manifest, notifications.sns_topic, kind, partition, succeeded=succeeded)


def _job(name: str, job: Job, document: Aside, partition: str, *, with_cause: bool = False) -> Task:
    variables = {
        TASK_VARIABLE: encode_inline({"aside": document}),
        "METAFLOW_ORCHESTRATOR_RUN": evaluated(_RUN),
    }
    if with_cause:
        detail = "$states.input.detail"
        failure = (
            f"{{'displayName':$exists({detail}.error)?{detail}.error:{detail}.status,"
            f"'message':$exists({detail}.cause)?$substring({detail}.cause,0,{_CAUSE_LENGTH}):{detail}.status}}"
        )
        variables["METAFLOW_ORCHESTRATOR_FAILURES"] = evaluated(f"$base64encode($string([{failure}]))")
    environment = [{"Name": key, "Value": value} for key, value in variables.items()]
    # The run is that of the event, and no state of this machine knows it otherwise.
    run = {RUN_ID: evaluated(_RUN)}
    fields = as_data(submission(dataclasses.replace(job, parameters={}, flow=None, has_run_tag=False), None))
    if job.has_run_tag:
        fields["Tags"] = {**fields["Tags"], **run}
    if job.flow is not None:
        fields["Parameters"] = run
    arguments = {**fields, "ContainerOverrides": {"Environment": environment}}
    resource = service(partition, "batch:submitJob.sync")
    return Task(
        name=name, resource=resource, arguments=arguments, retry=(throttled(in_map=False),), output={}, next=None
    )


def _sns(manifest: Manifest, topic: str, kind: str, partition: str, *, succeeded: bool) -> Task:
    flow = manifest.graph.name
    what = "succeeded" if succeeded else "failed"
    message = f"{text(f'Metaflow run {flow}/')} & {_RUN} & {text(f' {what}.')}"
    if not succeeded:
        detail = "$states.input.detail"
        message += f" & ($exists({detail}.error)?' ' & {detail}.error:'')"
        message += f" & ($exists({detail}.cause)?': ' & $substring({detail}.cause,0,{_CAUSE_LENGTH}):'')"
    return Task(
        name=f"publish on {kind}",
        resource=service(partition, "sns:publish"),
        # AWS: at most 100 characters.
        arguments={
            "TopicArn": literal(topic),
            "Subject": f"Metaflow: {flow[:60]} {what}",
            "Message": evaluated(message),
        },
        output={},
        next=None,
    )
