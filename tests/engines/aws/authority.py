"""Who may do what: policies and trust policies as IAM reads them, without anything that AWS would not forgive.

Written from IAM's user guide ("Policy evaluation logic", "Condition operators") and not from what the product prints,
so that the two do not share their mistakes. What it does not know raises, rather than to allow it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

MAX_INLINE_POLICIES = 10_240
"""Characters of all inline policies of a role (IAM, quotas); white space does not count."""

MAX_MANAGED_POLICY = 6_144
"""Characters of a managed policy."""

MAX_MANAGED_POLICIES = 10
"""Managed policies of a role or user (IAM, quotas)."""


@dataclass(frozen=True)
class Request:
    """One thing that a call needs to be allowed: an action on a resource, and the keys of its context."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Principal:
    """A role or user: its ARN, its policies, and the services that may assume it."""

    arn: str
    policies: tuple[dict[str, Any], ...]
    trusts: frozenset[str] = frozenset()

    def allows(self, request: Request) -> bool:
        """Whether a statement allows it and none denies it."""
        found = [one for policy in self.policies for one in policy["Statement"] if matches(one, request)]
        effects = {one["Effect"] for one in found}
        return effects == {"Allow"}


class Authority:
    """All principals of an account, by their ARN."""

    def __init__(self, principals: Iterable[Principal] = ()) -> None:
        self.principals = {one.arn: one for one in principals}

    def __getitem__(self, arn: str) -> Principal:
        return self.principals.get(arn) or Principal(arn, ())

    def add(self, arn: str, policies: Iterable[dict[str, Any]], trust: dict[str, Any] | None = None) -> None:
        """Give a principal its policies, in place of those that it had."""
        checked = tuple(check_policy(one) for one in policies)
        # White space does not count.
        sizes = [len(json.dumps(one, separators=(",", ":"))) for one in checked]
        if trust is not None:
            sizes = [sum(sizes)]
        limit = MAX_INLINE_POLICIES if trust is not None else MAX_MANAGED_POLICY
        assert not sizes or max(sizes) <= limit, f"policies of {arn} have {sizes} characters; IAM takes {limit}"
        assert len(sizes) <= MAX_MANAGED_POLICIES, f"{arn} has {len(sizes)} managed policies"
        self.principals[arn] = Principal(arn, checked, _trusted(trust) if trust else frozenset())

    def save(self, file: Path) -> None:
        """Write it for another process."""
        plain = [
            {"arn": one.arn, "policies": one.policies, "trusts": sorted(one.trusts)} for one in self.principals.values()
        ]
        file.write_text(json.dumps(plain))

    @classmethod
    def load(cls, file: Path) -> Authority:
        """Read what another process has written."""
        found = json.loads(file.read_text())
        return cls(Principal(one["arn"], tuple(one["policies"]), frozenset(one["trusts"])) for one in found)


def matches(statement: Mapping[str, Any], request: Request) -> bool:
    """Whether a statement is about a request."""
    return (
        any(_like(one.lower(), request.action.lower()) for one in _listed(statement["Action"]))
        and any(_like(one, request.resource) for one in _listed(statement["Resource"]))
        and all(
            _condition(operator, key, _listed(values), request.context)
            for operator, pairs in statement.get("Condition", {}).items()
            for key, values in pairs.items()
        )
    )


def _condition(operator: str, key: str, values: list[str], context: Mapping[str, str]) -> bool:
    found = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if operator == "Null":
        return (found is None) == (values[0] in (True, "true"))
    if found is None:
        return operator.endswith("IfExists")
    plain = operator.removesuffix("IfExists")
    if plain == "StringEquals":
        return found in values
    if plain == "StringLike":
        return any(_like(one, found) for one in values)
    if plain == "StringNotEquals":
        return found not in values
    raise AssertionError(f"the operator {operator} is not known here")


def _like(pattern: str, text: str) -> bool:
    return _expression(pattern).fullmatch(text) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """Made once: each call of an account is compared with some hundred patterns."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(one, re.escape(one)) for one in pattern), re.DOTALL)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def check_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """Return a policy that IAM would take (its grammar)."""
    assert policy["Version"] == "2012-10-17", policy
    assert policy["Statement"], "a policy needs a statement"
    names = [one["Sid"] for one in policy["Statement"] if "Sid" in one]
    assert len(names) == len(set(names)), f"a Sid stands twice: {names}"
    for one in policy["Statement"]:
        assert set(one) <= {"Sid", "Effect", "Action", "Resource", "Condition"}, one
        assert re.fullmatch("[A-Za-z0-9]*", one.get("Sid", "")), one
        assert one["Effect"] in ("Allow", "Deny"), one
        assert _listed(one["Action"]), one
        assert _listed(one["Resource"]), one
        for action in _listed(one["Action"]):
            assert action == "*" or re.fullmatch(r"[a-z0-9-]+:[A-Za-z*?]+", action), action
        for resource in _listed(one["Resource"]):
            assert resource == "*" or re.fullmatch(r"arn:[a-z-]+:[a-z0-9-]+:[^:]*:[^:]*:.+", resource), resource
    return policy


def _trusted(trust: dict[str, Any]) -> frozenset[str]:
    assert trust["Version"] == "2012-10-17"
    services: set[str] = set()
    for one in trust["Statement"]:
        assert (one["Effect"], one["Action"]) == ("Allow", "sts:AssumeRole"), one
        services |= set(_listed(one["Principal"]["Service"]))
    return frozenset(services)
