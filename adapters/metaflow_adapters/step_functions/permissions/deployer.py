"""The policy of who deploys a flow and looks after its runs: what the verbs of ``sfn`` call, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from metaflow_adapters.step_functions.emit.resources import PolicyDocument, Statement
from metaflow_adapters.step_functions.language.jsonata import to_json
from metaflow_adapters.step_functions.plan.names import (
    HELPERS,
    MAX_RULES,
    SCHEDULES,
    helper_name,
    machine_helper_name,
    secret_name,
)
from metaflow_adapters.step_functions.settings import Place

from .roles import Needs, allow, definition_arns, document, list_buckets, terminate_jobs

DEPLOYER = "deployer"

MAX_MANAGED_POLICY = 6_144
"""Characters of a managed policy, white space not counted (IAM, quotas)."""

_ARN = "arn:aws-us-gov:iam::123456789012:role/" + 96 * "x"
"""As long as what stands in a template for the ARN of a role that it makes itself."""

_PLACEHOLDER = re.compile(r"\$\{[\w.]+\}")

ASKED = ("iam:GetRole", "iam:SimulatePrincipalPolicy")
"""What ``create`` asks IAM about roles, before it changes anything."""


def deployer_policy(
    place: Place,
    needs: Needs,
    *,
    machine_roles: Sequence[str],
    events_roles: Sequence[str],
    job_roles: Sequence[str],
    log_groups: Sequence[str],
) -> PolicyDocument:
    """Return the policy document of who deploys a flow.

    :param place: where in AWS.
    :param needs: what the deployment uses.
    :param machine_roles: ARNs of the roles of state machines.
    :param events_roles: ARNs of the roles of rules and schedules.
    :param job_roles: ARNs of the roles that job definitions name.
    :param log_groups: where jobs log to.
    """
    passed = [
        ("PassMachine", machine_roles, ["states.amazonaws.com"]),
        ("PassEvents", events_roles, ["events.amazonaws.com", "scheduler.amazonaws.com"]),
        ("PassJobs", job_roles, ["ecs-tasks.amazonaws.com"]),
    ]
    return document(
        [
            *_machines(place, needs),
            *_batch(place, needs),
            allow("Logs", ["logs:FilterLogEvents"], [place.arn("logs", f"log-group:{one}:*") for one in log_groups]),
            *_starts(place, needs),
            *_data(place, needs),
            *_asked(machine_roles, events_roles),
            *(_pass(name, roles, services) for name, roles, services in passed if roles),
        ]
    )


def divided(policy: PolicyDocument) -> dict[str, PolicyDocument]:
    """Return a deployer's policy as the managed policies that IAM takes: one, or more of them for long names.

    :param policy: the whole of it.
    :returns: documents by name: ``deployer``, ``deployer_2`` and so on.
    """
    parts: list[list[Statement]] = [[]]
    for statement in policy["Statement"]:
        if _size([*parts[-1], statement]) > MAX_MANAGED_POLICY and parts[-1]:
            parts.append([])
        parts[-1].append(statement)
    return {f"{DEPLOYER}_{number}" if number > 1 else DEPLOYER: document(one) for number, one in enumerate(parts, 1)}


def is_deployers(name: str) -> bool:
    """Return whether a policy is of who deploys, and not of a role.

    :param name: its name among those of a deployment.
    """
    return name.partition("_")[0] == DEPLOYER


def _size(statements: Sequence[Statement]) -> int:
    return len(_PLACEHOLDER.sub(_ARN, to_json(document(statements))))


def _machines(place: Place, needs: Needs) -> Iterator[Statement]:
    # AWS knows no narrower form.
    yield allow("ListMachines", ["states:ListStateMachines", "states:ValidateStateMachineDefinition"], ["*"])
    own = [needs.machine, *(machine_helper_name(needs.machine, helper) for helper in HELPERS)]
    actions = [f"states:{one}StateMachine" for one in ("Describe", "Create", "Update", "Delete")]
    yield allow("Machines", [*actions, "states:ListExecutions"], [place.machine(one) for one in own])
    yield allow("Runs", ["states:StartExecution"], [place.machine(needs.machine)])
    actions = ["DescribeExecution", "GetExecutionHistory", "StopExecution", "RedriveExecution", "ListMapRuns"]
    # A split of a distributed map is an execution, too, named after the state machine and the label of the map.
    executions = [place.arn("states", f"execution:{needs.machine}{end}") for end in (":*", "/*")]
    yield allow("Run", [f"states:{one}" for one in actions], executions)
    executions = [place.arn("states", f"execution:{one}:*") for one in own]
    yield allow("Versions", ["states:DescribeStateMachineForExecution"], executions)
    maps = [place.arn("states", f"mapRun:{needs.machine}/*")]
    yield allow("Maps", ["states:DescribeMapRun", "states:ListExecutions"], maps)


def _batch(place: Place, needs: Needs) -> Iterator[Statement]:
    definitions = definition_arns(place, needs)
    yield allow("Register", ["batch:RegisterJobDefinition", "batch:DeregisterJobDefinition"], definitions)
    names = ["DescribeJobDefinitions", "DescribeJobQueues", "DescribeComputeEnvironments", "DescribeJobs"]
    if needs.gangs:
        # A job that is submitted while its run is ended is found by its name only.
        names.append("ListJobs")
    # AWS Batch knows no resource for them.
    yield allow("DescribeBatch", [f"batch:{name}" for name in names], ["*"])
    yield terminate_jobs(place, needs)


def _starts(place: Place, needs: Needs) -> Iterator[Statement]:
    names = [helper_name(needs.machine), helper_name(needs.machine, "after")]
    names += [helper_name(needs.machine, f"event-{number}") for number in range(MAX_RULES)]
    # One pattern for the numbered ones, for the length of a policy is limited.
    rules = list(dict.fromkeys(_numbered(name) for name in names))
    actions = ["DescribeRule", "PutRule", "PutTargets", "ListTargetsByRule", "RemoveTargets", "DeleteRule"]
    yield allow("Rules", [f"events:{one}" for one in actions], [place.arn("events", f"rule/{one}") for one in rules])
    # AWS knows no narrower form.
    yield allow("FindRules", ["events:ListRuleNamesByTarget"], ["*"])
    schedules = [place.arn("scheduler", f"schedule/default/{helper_name(needs.machine, one)}") for one in SCHEDULES]
    yield allow("Schedules", [f"scheduler:{one}Schedule" for one in ("Create", "Get", "Update", "Delete")], schedules)


def _numbered(name: str) -> str:
    stem, dash, number = name.rpartition("-")
    return f"{stem}-*" if dash and number.isdigit() and stem.endswith("-event") else name


def _data(place: Place, needs: Needs) -> Iterator[Statement]:
    written = (*needs.written, *needs.documents)
    yield allow("Data", ["s3:GetObject", "s3:PutObject"], [f"{place.bucket(one)}*" for one in written])
    yield from list_buckets(place, written)
    secret = place.arn("secretsmanager", f"secret:{secret_name(needs.machine)}-??????")
    actions = ["CreateSecret", "TagResource", "PutSecretValue", "DescribeSecret", "DeleteSecret"]
    yield allow("Secret", [f"secretsmanager:{one}" for one in actions], [secret])


def _asked(machine_roles: Sequence[str], events_roles: Sequence[str]) -> Iterator[Statement]:
    """Yield what ``create`` asks IAM with, before it changes anything."""
    roles = list(dict.fromkeys((*machine_roles, *events_roles)))
    if roles:
        yield allow("AskRoles", list(ASKED), roles)


def _pass(name: str, roles: Sequence[str], services: Sequence[str]) -> Statement:
    return {
        **allow(name, ["iam:PassRole"], list(roles)),
        "Condition": {"StringEquals": {"iam:PassedToService": list(services)}},
    }
