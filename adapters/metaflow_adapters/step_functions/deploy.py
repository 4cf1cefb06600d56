"""Brings a flow to AWS, and takes away what an earlier deployment had and this one has not.

The state machine is changed in one call, after all that it needs is there: a deployment that stops half-way leaves
the old one working. Job definitions are named by their content, and stay while a run may still use them.
"""

from __future__ import annotations

import difflib
import json
from typing import Any

from metaflow_orchestration.exceptions import InvalidOptionError

from .aws import Aws, code_of, told
from .jobs import DEPLOYMENT_TAG
from .machine import FlowMachine, to_json
from .names import HELPERS, MAX_RULES, SCHEDULES, check_name, helper_name, machine_helper_name


def bring(machine: FlowMachine, aws: Aws) -> str:
    """Deploy a flow and return the ARN of its state machine.

    :param machine: the flow.
    :param aws: clients of AWS.
    :raises InvalidOptionError: if a role or log group is missing.
    """
    check_deployable(machine)
    resources, settings = machine.resources, machine.settings
    for url, content in resources.uploads.items():
        aws.save(url, content)
    there = {one["jobDefinitionName"] for one in aws.definitions_of(machine.name, DEPLOYMENT_TAG)}
    for definition in resources.job_definitions:
        if definition["jobDefinitionName"] not in there:
            with told(f"Registering the job definition {definition['jobDefinitionName']}"):
                aws.batch.register_job_definition(**definition)
    role = str(settings.machine_role)
    for name, definition in resources.state_machines.items():
        _put_machine(aws, name, to_json(definition), role, None)
    log_group = settings.log_group if machine.log_history else None
    arn = _put_machine(aws, machine.name, machine.to_json(), role, log_group)
    _put_triggers(machine, aws)
    _tidy(machine, aws, arn)
    return arn


def check_deployable(machine: FlowMachine) -> None:
    """Check the name of a flow, and that the installation has the roles that it needs, before anything is changed.

    :param machine: the flow.
    :raises InvalidOptionError: naming the rule, or the setting that is missing.
    """
    check_name(machine.name, machine.manifest.graph.name)
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
    if "${" in machine.arn:
        raise InvalidOptionError("there is no region of AWS.", flow=flow, hint="Set AWS_DEFAULT_REGION.")


def _put_machine(aws: Aws, name: str, definition: str, role: str, log_group: str | None) -> str:
    from botocore.exceptions import ClientError

    logging: dict[str, Any] = {"level": "OFF"}
    if log_group:
        destination = {"cloudWatchLogsLogGroup": {"logGroupArn": log_group}}
        logging = {"level": "ALL", "includeExecutionData": True, "destinations": [destination]}
    fields = {"definition": definition, "roleArn": role, "loggingConfiguration": logging}
    found = aws.find_machine(name)
    with told(f"Deploying the state machine {name}"):
        if found is None:
            try:
                return str(aws.states.create_state_machine(name=name, **fields)["stateMachineArn"])
            except ClientError as error:
                if code_of(error) != "StateMachineAlreadyExists":
                    raise
                # Somebody was faster.
                found = aws.find_machine(name) or {}
        arn = str(found["stateMachineArn"])
        aws.states.update_state_machine(stateMachineArn=arn, **fields)
        return arn


def _put_triggers(machine: FlowMachine, aws: Aws) -> None:
    from botocore.exceptions import ClientError

    for schedule in machine.resources.schedules:
        with told(f"Making the schedule {schedule['Name']}"):
            try:
                aws.scheduler.create_schedule(**schedule)
            except ClientError as error:
                if code_of(error) != "ConflictException":
                    raise
                aws.scheduler.update_schedule(**schedule)
    for rule in machine.resources.rules:
        with told(f"Making the rule {rule['Name']}"):
            aws.events.put_rule(**{key: value for key, value in rule.items() if key != "Targets"}, State="ENABLED")
            answer = aws.events.put_targets(Rule=rule["Name"], Targets=rule["Targets"])
        if answer.get("FailedEntryCount"):
            raise InvalidOptionError(
                f"EventBridge did not take the target of the rule {rule['Name']}: {answer['FailedEntries'][0]}",
                flow=machine.manifest.graph.name,
            )


def _tidy(machine: FlowMachine, aws: Aws, arn: str) -> None:
    """Take away what an earlier deployment had and this one has not."""
    resources, name = machine.resources, machine.name
    kept = {one["Name"] for one in resources.schedules}
    remove_schedules(aws, name, kept)
    remove_rules(aws, name, machine.place.machine, {one["Name"] for one in resources.rules})
    for helper in HELPERS:
        helping = machine_helper_name(name, helper)
        if helping not in resources.state_machines:
            remove_machine(aws, helping)
    with told(f"Listing the runs of {name}"):
        running = aws.states.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
    if not running:
        remove_definitions(aws, name, {one["jobDefinitionName"] for one in resources.job_definitions})


def remove_schedules(aws: Aws, name: str, kept: set[str]) -> None:
    """Delete the schedules of a deployment.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param kept: names of those that stay.
    """
    from botocore.exceptions import ClientError

    for what in SCHEDULES:
        schedule = helper_name(name, what)
        if schedule in kept:
            continue
        with told(f"Deleting the schedule {schedule}"):
            try:
                aws.scheduler.delete_schedule(Name=schedule)
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise


def remove_rules(aws: Aws, name: str, arn_of: Any, kept: set[str]) -> None:
    """Delete the rules of a deployment, and the rule of a schedule that Metaflow's own deployer has made.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param arn_of: returns the ARN of a state machine by its name.
    :param kept: names of those that stay.
    """
    own = {arn_of(name), *(arn_of(machine_helper_name(name, helper)) for helper in HELPERS)}
    rules = [helper_name(name), helper_name(name, "after")]
    rules += [helper_name(name, f"event-{number}") for number in range(MAX_RULES)]
    for target in own:
        with told("Listing rules"):
            found = aws.events.list_rule_names_by_target(TargetArn=target)["RuleNames"]
        for rule in set(found) & set(rules) - kept:
            with told(f"Deleting the rule {rule}"):
                targets = aws.events.list_targets_by_rule(Rule=rule)["Targets"]
                aws.events.remove_targets(Rule=rule, Ids=[one["Id"] for one in targets])
                aws.events.delete_rule(Name=rule)


def remove_machine(aws: Aws, name: str) -> bool:
    """Delete a state machine, and tell whether there was one.

    :param aws: clients of AWS.
    :param name: its name.
    """
    found = aws.find_machine(name)
    if found is None:
        return False
    with told(f"Deleting the state machine {name}"):
        aws.states.delete_state_machine(stateMachineArn=found["stateMachineArn"])
    return True


def remove_definitions(aws: Aws, name: str, kept: set[str]) -> None:
    """Deregister the job definitions of a deployment.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param kept: names of those that stay.
    """
    for one in list(aws.definitions_of(name, DEPLOYMENT_TAG)):
        if one["jobDefinitionName"] not in kept:
            with told(f"Deregistering the job definition {one['jobDefinitionName']}"):
                aws.batch.deregister_job_definition(jobDefinition=one["jobDefinitionArn"])


def difference(machine: FlowMachine, aws: Aws) -> str:
    """Return how a deployed state machine differs from a flow, as a unified diff.

    :param machine: the flow.
    :param aws: clients of AWS.
    """
    found = aws.find_machine(machine.name)
    old = json.loads(found["definition"]) if found is not None else {}

    def lines(definition: dict[str, Any]) -> list[str]:
        return json.dumps(definition, indent=1).splitlines(keepends=True) if definition else []

    new = lines(machine.definition)
    return "".join(difflib.unified_diff(lines(old), new, f"{machine.name} on AWS", f"{machine.name} here"))
