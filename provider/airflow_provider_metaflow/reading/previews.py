"""Short texts of values for people, and none of what looks like a secret. Standard library only, as ``index.py``."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_PREVIEW = 200
"""Characters of a preview."""

_MAX_DEPTH = 20

_NAMES = (
    "password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "apikey", "accesskey", "accountkey",
    "privatekey", "signingkey", "encryptionkey", "authorization", "bearer", "cookie", "connectionstring", "connstr",
    "dsn", "jwt", "sessionid",
)  # fmt: skip
"""Parts of names, without underscores; a harmless value too many is hidden rather than a secret shown."""

_WORDS = frozenset(("auth", "key", "pass", "pin", "salt"))
"""Whole words of names."""

_VALUES = re.compile(
    r"-----BEGIN|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[0-9A-Za-z]{20}|\bgithub_pat_|\bglpat-|\bxox[abeprs]-"
    r"|\bsk-[0-9A-Za-z_-]{16}|\bsk_live_|\bAIza[0-9A-Za-z_-]{30}|(?<![0-9A-Za-z_-])eyJ[0-9A-Za-z_-]{10,}\.eyJ|\bhf_[0-9A-Za-z]{20}"
    r"|://[^/\s:@]*:[^/\s@]+@|(?i:\bbearer\s+[0-9a-z._-]{16})|(?i:\b(?:password|passwd|pwd|secret|token)\s*[=:]\s*\S)"
    r"|[?&](?i:sig|signature|token|x-amz-signature)=",
)


def is_secret_name(name: str) -> bool:
    """Return whether the name of a value sounds like that of a secret.

    :param name: name of an artifact, a parameter or a key.
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return any(part in plain for part in _NAMES) or any(word.lower() in _WORDS for word in words)


def is_secret(value: Any, depth: int = 0) -> bool:
    """Return whether a value holds what looks like a secret, or is nested too deeply to check.

    :param value: a value of JSON types.
    :param depth: how deep it is nested.
    """
    if isinstance(value, str):
        return _VALUES.search(value) is not None
    if not isinstance(value, (dict, list)):
        return False
    if depth == _MAX_DEPTH:
        return True
    if isinstance(value, dict):
        return any(is_secret_name(str(key)) or is_secret(one, depth + 1) for key, one in value.items())
    return any(is_secret(one, depth + 1) for one in value)


def preview(name: str, value: Any) -> str | None:
    """Return the beginning of a value as JSON on one line; None if it looks like a secret.

    :param name: its name.
    :param value: a value of JSON types, as a task has written it down.
    """
    if is_secret_name(name) or is_secret(value):
        return None
    return shortened(json.dumps(value, ensure_ascii=False), MAX_PREVIEW)


def shortened(text: str, limit: int) -> str:
    """Return the beginning of a text; what is invisible, or turns the direction of a text, is written as an escape.

    :param text: the text.
    :param limit: its characters.
    """
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in cut)
