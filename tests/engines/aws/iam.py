"""What IAM answers of roles: how a policy is simulated, and whom a role trusts. moto 5.2.5 simulates nothing.

From IAM's API reference (`SimulatePrincipalPolicy`, `GetRole`). Both read the principals that the layer enforces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from .authority import Authority, Request

ANSWERED = ("SimulatePrincipalPolicy", "GetRole")
"""Operations that are answered here."""


def answer(authority: Authority, account: str, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to an operation, as botocore parses it."""
    if operation == "GetRole":
        return {"Role": _role(authority, account, given["RoleName"])}
    principal = authority[given["PolicySourceArn"]]
    context = {one["ContextKeyName"]: one["ContextKeyValues"][0] for one in given.get("ContextEntries", ())}
    results = []
    for action in given["ActionNames"]:
        for resource in given.get("ResourceArns") or ("*",):
            allowed = principal.allows(Request(action, resource, context))
            decision = "allowed" if allowed else "implicitDeny"
            results.append({"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision})
    return {"EvaluationResults": results, "IsTruncated": False}


def _role(authority: Authority, account: str, name: str) -> dict[str, Any]:
    arn = f"arn:aws:iam::{account}:role/{name}"
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    trust = {**statement, "Principal": {"Service": sorted(authority[arn].trusts)}}
    document = quote(json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    return {"RoleName": name, "Arn": arn, "AssumeRolePolicyDocument": document}


def as_xml(operation: str, answered: Mapping[str, Any]) -> bytes:
    """Return an answer as IAM sends it."""
    inner = f"<{operation}Result>{_xml(answered)}</{operation}Result>"
    xmlns = 'xmlns="https://iam.amazonaws.com/doc/2010-05-08/"'
    return f"<{operation}Response {xmlns}>{inner}</{operation}Response>".encode()


def _xml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{key}>{_xml(one)}</{key}>" for key, one in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(one)}</member>" for one in value)
    return escape(str(value).lower() if isinstance(value, bool) else str(value))
