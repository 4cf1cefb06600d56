"""Rules of EventBridge that start runs, made, disabled and removed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import cast

from metaflow_adapters.step_functions.aws.client import Aws, NotPermittedError, aws_call, code_of, start_parameters
from metaflow_adapters.step_functions.emit.resources import Rule
from metaflow_adapters.step_functions.plan.names import HELPERS, MAX_RULES, SCHEDULES, helper_name, machine_helper_name
from metaflow_orchestration.exceptions import InvalidOptionError

from .access import EVENTS
from .changes import Changes

_LOG = logging.getLogger(__name__)


def put_rule(rule: Rule, aws: Aws, changes: Changes, flow: str) -> None:
    """Make a rule, or change it.

    :param rule: fields of ``PutRule``, and its ``Targets``.
    :param aws: clients of AWS.
    :param changes: records what is changed.
    :param flow: name of the flow, for an error.
    :raises AwsError: if it is not permitted.
    :raises InvalidOptionError: if EventBridge does not take the target.
    """
    fields = rule.copy()
    name, targets = fields["Name"], fields.pop("Targets")
    before, is_known = _rule_before(aws, name)
    try:
        with aws_call(f"Making the rule {name}"):
            aws.events.put_rule(**fields, State="ENABLED")
    except NotPermittedError as problem:
        wider = _without_source(fields)
        if wider is None:
            raise
        # Metaflow's own template permits rules whose pattern names no source.
        with aws_call(f"Making the rule {name}"):
            aws.events.put_rule(**wider, State="ENABLED")
        _LOG.warning("The rule %s takes events from any source: %s", name, problem)
    if is_known:
        changes.add(f"Restoring the rule {name}", lambda: _restore(aws, name, before))
    with aws_call(f"Making the rule {name}", role=targets[0]["RoleArn"], service=EVENTS):
        answer = aws.events.put_targets(Rule=name, Targets=targets)
    if answer.get("FailedEntryCount"):
        raise InvalidOptionError(
            f"EventBridge did not take the target of the rule {name}: {answer['FailedEntries'][0]}", flow=flow
        )


def _without_source(fields: Rule) -> Rule | None:
    pattern = json.loads(fields.get("EventPattern") or "{}")
    if "source" not in pattern:
        return None
    del pattern["source"]
    return {**fields, "EventPattern": json.dumps(pattern, separators=(",", ":"))}


def _rule_before(aws: Aws, name: str) -> tuple[Rule | None, bool]:
    """Return a rule with its targets, None if there is none, and whether that is known."""
    from botocore.exceptions import ClientError

    try:
        with aws_call(f"Reading the rule {name}"):
            try:
                found = aws.events.describe_rule(Name=name)
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise
                return None, True
            targets = aws.events.list_targets_by_rule(Rule=name)["Targets"]
    except NotPermittedError:
        return None, False
    kept = ("Name", "ScheduleExpression", "EventPattern", "State", "Description", "RoleArn")
    return cast("Rule", {**{key: found[key] for key in kept if found.get(key)}, "Targets": targets}), True


def _restore(aws: Aws, name: str, before: Rule | None) -> None:
    if before is None:
        delete_rule(aws, name)
        return
    fields = before.copy()
    targets = fields.pop("Targets")
    aws.events.put_rule(**fields)
    if targets:
        aws.events.put_targets(Rule=name, Targets=targets)


def delete_rule(aws: Aws, name: str) -> None:
    """Delete a rule and its targets.

    :param aws: clients of AWS.
    :param name: its name.
    """
    targets = aws.events.list_targets_by_rule(Rule=name)["Targets"]
    if targets:
        aws.events.remove_targets(Rule=name, Ids=[one["Id"] for one in targets])
    aws.events.delete_rule(Name=name)


def rules_of(aws: Aws, name: str, arn_of: Callable[[str], str]) -> Iterator[str]:
    """Yield the rules of a deployment, and that of a schedule that Metaflow's own deployer has made.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param arn_of: returns the ARN of a state machine by its name.
    """
    own = {arn_of(name), *(arn_of(machine_helper_name(name, helper)) for helper in HELPERS)}
    rules = {helper_name(name, what) for what in (*SCHEDULES, "after")}
    rules |= {helper_name(name, f"event-{number}") for number in range(MAX_RULES)}
    for target in sorted(own):
        with aws_call("Listing rules"):
            found = aws.events.list_rule_names_by_target(TargetArn=target)["RuleNames"]
        yield from sorted(set(found) & rules)


def remove_rules(aws: Aws, name: str, arn_of: Callable[[str], str], kept: set[str]) -> None:
    """Delete the rules of a deployment, and the rule of a schedule that Metaflow's own deployer has made.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param arn_of: returns the ARN of a state machine by its name.
    :param kept: names of those that stay.
    """
    for rule in rules_of(aws, name, arn_of):
        if rule not in kept:
            with aws_call(f"Deleting the rule {rule}"):
                delete_rule(aws, rule)


def stop_rules(aws: Aws, name: str, arn_of: Callable[[str], str], kept: set[str]) -> None:
    """Delete or disable the rules that a deployment has no more, whichever is permitted.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param arn_of: returns the ARN of a state machine by its name.
    :param kept: names of those that stay.
    :raises AwsError: if one can be neither deleted nor disabled.
    """
    try:
        found = list(rules_of(aws, name, arn_of))
    except NotPermittedError:
        _disable_unseen(aws, name, arn_of, kept)
        return
    for rule in found:
        if rule in kept:
            continue
        try:
            with aws_call(f"Deleting the rule {rule}"):
                delete_rule(aws, rule)
        except NotPermittedError:
            _disable(aws, rule)


def _disable_unseen(aws: Aws, name: str, arn_of: Callable[[str], str], kept: set[str]) -> None:
    """Disable the rules of a deployment by their names only, as Metaflow's own deployer does that of a schedule."""
    _disable_own(aws, name, arn_of, kept, "")
    for what in (*SCHEDULES[1:], "after"):
        _disable_own(aws, name, arn_of, kept, what)
    for number in range(MAX_RULES):
        if not _disable_own(aws, name, arn_of, kept, f"event-{number}"):
            # They are numbered without gaps.
            break


def _disable_own(aws: Aws, name: str, arn_of: Callable[[str], str], kept: set[str], what: str) -> bool:
    rule = helper_name(name, what)
    if rule in kept:
        return True
    # The rule of a schedule has the name of its state machine, which may be another deployment's.
    other = aws.find_machine(rule, arn_of(rule)) if what else None
    if other is not None and start_parameters(other) is not None:
        return True
    return _disable(aws, rule)


def _disable(aws: Aws, rule: str) -> bool:
    """Disable a rule, and return whether there is one."""
    from botocore.exceptions import ClientError

    with aws_call(f"Disabling the rule {rule}"):
        try:
            aws.events.disable_rule(Name=rule)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            return False
    return True
