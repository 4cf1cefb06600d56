"""Deploys a flow to AWS.

What can be known before is checked first: settings, roles, definitions. Then job definitions are registered, which
are named by their content and disturb nobody; then what runs is changed, and changed back if AWS refuses a part of it.
What an earlier deployment had and this one has not is removed last.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from metaflow_adapters.step_functions.aws.client import Aws, AwsError, NotPermittedError, aws_call, code_of
from metaflow_adapters.step_functions.aws.structures import LoggingConfiguration, MachineSettings, RegisteredDefinition
from metaflow_adapters.step_functions.emit.resources import Rule
from metaflow_adapters.step_functions.language.jsonata import to_json
from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG, MACHINE_NAME
from metaflow_orchestration.exceptions import InvalidOptionError

from .access import EVENTS, SCHEDULER, STATES, Access, access_of, check_access, fitted
from .changes import Changes
from .rules import put_rule, remove_rules
from .schedules import put_schedules, remove_schedules
from .tidy import remove_definitions, remove_machine, tidy

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.machine import FlowMachine

__all__ = [
    "check_deployable",
    "deploy_machine",
    "difference",
    "remove_definitions",
    "remove_machine",
    "remove_rules",
    "remove_schedules",
]


def deploy_machine(machine: FlowMachine, aws: Aws) -> str:
    """Deploy a flow and return the ARN of its state machine.

    :param machine: the flow.
    :param aws: clients of AWS.
    :raises InvalidOptionError: if a role or log group is missing.
    :raises AwsError: if AWS refuses; what had been deployed before goes on then.
    """
    check_deployable(machine)
    if "${" in machine.arn:
        flow = machine.manifest.graph.name
        raise InvalidOptionError("there is no region of AWS.", flow=flow, hint="Set AWS_DEFAULT_REGION.")
    access = access_of(machine, aws)
    machine = fitted(machine, access)
    check_access(machine, access)
    _validate(machine, aws)
    for url, content in machine.resources.uploads.items():
        aws.save(url, content)
    known = list(aws.definitions_of(machine.name, DEPLOYMENT_TAG))
    revisions = _register(machine, aws, known)
    texts = _definitions(machine, revisions if access.needs_revisions else {})
    changes = Changes()
    before: dict[str, str] = {}
    try:
        triggers = _put_all(machine, aws, access, texts, changes, before)
    except BaseException:
        changes.take_back()
        raise
    tidy(machine, aws, triggers=triggers, before=before, definitions=known)
    return machine.arn


def _put_all(
    machine: FlowMachine,
    aws: Aws,
    access: Access,
    texts: Mapping[str, str],
    changes: Changes,
    before: dict[str, str],
) -> set[str]:
    """Change what runs, and return the names of the rules that the deployment has."""
    flow, settings = machine.manifest.graph.name, machine.settings
    # The Scheduler first: it is what roles made for Metaflow's own deployer do not permit.
    stand_ins = put_schedules(
        machine,
        aws,
        changes,
        is_trusted=access.trusts(settings.events_role, SCHEDULER),
        rules_trusted=access.trusts(settings.events_role, EVENTS),
    )
    rules = [*stand_ins, *machine.resources.rules]
    is_new = aws.find_machine(machine.name, machine.arn) is None
    if is_new:
        # Nothing runs yet: what is refused leaves nothing behind.
        _put_rules(rules, aws, changes, flow)
    for name, text in texts.items():
        is_main = name == machine.name
        log_group = settings.log_group if is_main and machine.log_history else None
        fields = _fields(text, str(settings.machine_role), log_group)
        old = _put_machine(aws, name, machine.place.machine(name), fields, changes)
        if old is not None:
            before[machine.place.machine(name)] = old
    if not is_new:
        _put_rules(rules, aws, changes, flow)
    return {one["Name"] for one in rules}


def _put_rules(rules: Iterable[Rule], aws: Aws, changes: Changes, flow: str) -> None:
    for rule in rules:
        put_rule(rule, aws, changes, flow)


def _validate(machine: FlowMachine, aws: Aws) -> None:
    """Have AWS look at the definitions, where the deployer may ask it to; `create` and `update` look at them, too."""
    for name, text in _definitions(machine, {}).items():
        try:
            with aws_call(f"Validating the state machine {name}"):
                answer = aws.states.validate_state_machine_definition(definition=text)
        except NotPermittedError:
            return
        if answer["result"] == "FAIL":
            problems = "; ".join(str(one.get("message")) for one in answer["diagnostics"])
            raise AwsError(
                f"AWS does not take the definition of the state machine {name!r}: {problems}",
                flow=machine.manifest.graph.name,
            )


def _register(machine: FlowMachine, aws: Aws, known: Iterable[RegisteredDefinition]) -> dict[str, int]:
    """Register the job definitions that AWS has not, and return the latest revision of each by name."""
    revisions: dict[str, int] = {}
    for one in known:
        revisions[one["jobDefinitionName"]] = max(one["revision"], revisions.get(one["jobDefinitionName"], 0))
    for definition in machine.resources.job_definitions:
        name = definition["jobDefinitionName"]
        if name not in revisions:
            with aws_call(f"Registering the job definition {name}"):
                revisions[name] = aws.batch.register_job_definition(**definition)["revision"]
    return revisions


def _definitions(machine: FlowMachine, revisions: Mapping[str, int]) -> dict[str, str]:
    """Return the definitions of the state machines by name, that of the flow last."""
    found = {name: to_json(one) for name, one in machine.resources.state_machines.items()}
    found[machine.name] = machine.to_json()
    if not revisions:
        return found
    names = "|".join(re.escape(name) for name in sorted(revisions, key=len, reverse=True))
    pattern = re.compile(rf"(?:{names})(?![A-Za-z0-9_-])")
    return {name: pattern.sub(lambda match: f"{match[0]}:{revisions[match[0]]}", text) for name, text in found.items()}


def check_deployable(machine: FlowMachine) -> None:
    """Check the name of a flow, and that the installation has the roles that it needs, before anything is changed.

    :param machine: the flow.
    :raises InvalidOptionError: naming the rule, or the setting that is missing.
    """
    MACHINE_NAME.check(machine.name, machine.manifest.graph.name)
    flow, settings, resources = machine.manifest.graph.name, machine.settings, machine.resources
    if not settings.machine_role:
        raise InvalidOptionError("there is no role for state machines.", flow=flow, hint="Set METAFLOW_SFN_IAM_ROLE.")
    if machine.log_history and not settings.log_group:
        raise InvalidOptionError(
            "there is no log group for --log-execution-history.",
            flow=flow,
            hint="Set METAFLOW_SFN_EXECUTION_LOG_GROUP_ARN.",
        )
    if (resources.schedules or resources.rules) and not settings.events_role:
        raise InvalidOptionError(
            "there is no role by which EventBridge starts runs.",
            flow=flow,
            hint="Set METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE.",
        )


def _fields(definition: str, role: str, log_group: str | None) -> MachineSettings:
    logging: LoggingConfiguration = {"level": "OFF"}
    if log_group:
        destination = {"cloudWatchLogsLogGroup": {"logGroupArn": log_group}}
        logging = {"level": "ALL", "includeExecutionData": True, "destinations": [destination]}
    return {"definition": definition, "roleArn": role, "loggingConfiguration": logging}


def _put_machine(aws: Aws, name: str, arn: str, fields: MachineSettings, changes: Changes) -> str | None:
    """Make a state machine or change it, and return the definition that it had."""
    from botocore.exceptions import ClientError

    found = aws.find_machine(name, arn)
    with aws_call(f"Deploying the state machine {name}", role=fields["roleArn"], service=STATES):
        if found is None:
            try:
                aws.states.create_state_machine(name=name, **fields)
            except ClientError as error:
                if code_of(error) != "StateMachineAlreadyExists":
                    raise
                # Somebody was faster.
                found = aws.find_machine(name, arn) or {}
            else:
                undo: Callable[[], Any] = lambda: aws.states.delete_state_machine(stateMachineArn=arn)  # noqa: E731
                changes.add(f"Deleting the state machine {name}", undo)
                return None
        aws.states.update_state_machine(stateMachineArn=arn, **fields)
    kept = {key: value for key, value in found.items() if key in MachineSettings.__annotations__}
    changes.add(
        f"Restoring the state machine {name}", lambda: aws.states.update_state_machine(stateMachineArn=arn, **kept)
    )
    return str(found.get("definition", ""))


_PINNED = re.compile(r"(metaflow-[A-Za-z0-9_-]+-[0-9a-f]{16}(?:-after)?):\d+")
"""A job definition with its revision, of which the definition of a flow knows nothing."""


def difference(machine: FlowMachine, aws: Aws) -> str:
    """Return how a deployed state machine differs from a flow, as a unified diff.

    :param machine: the flow.
    :param aws: clients of AWS.
    """
    machine = fitted(machine, access_of(machine, aws))
    found = aws.find_machine(machine.name)
    old = json.loads(_PINNED.sub(r"\1", found["definition"])) if found is not None else {}

    def lines(definition: Mapping[str, object]) -> list[str]:
        return json.dumps(definition, indent=1).splitlines(keepends=True) if definition else []

    new = lines(machine.definition)
    return "".join(difflib.unified_diff(lines(old), new, f"{machine.name} on AWS", f"{machine.name} here"))
