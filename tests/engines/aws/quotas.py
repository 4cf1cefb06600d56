"""Sizes and rates that AWS refuses and moto takes (service quotas and API references of each service)."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

MAX_SUBMISSION_BYTES = 30 * 1024
MAX_DEFINITION_BYTES = 24 * 1024
MAX_OVERRIDES_BYTES = 8192
MAX_MACHINE_BYTES = 1024 * 1024
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_TAGS, MAX_TAG_KEY, MAX_TAG_VALUE = 50, 128, 256
SUBMISSIONS_PER_SECOND = 50

_JSON_KEYS = {"Batch": ("tags",), "States": ("tags",)}


class Throttle:
    """Takes so many calls in any second, and refuses the others; the clock may be a test's."""

    def __init__(self, per_second: int = SUBMISSIONS_PER_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._taken: deque[float] = deque()
        self._lock = threading.Lock()
        self.refused = 0

    def takes(self) -> bool:
        with self._lock:
            now = self._clock()
            while self._taken and now - self._taken[0] >= 1:
                self._taken.popleft()
            if len(self._taken) >= self._per_second:
                self.refused += 1
                return False
            self._taken.append(now)
            return True


def exceeded(service: str, operation: str, given: Mapping[str, Any]) -> str | None:
    """Return which quota a call exceeds, None if none."""
    checks = _CHECKS.get((service, operation), ())
    return next((problem for check in checks if (problem := check(given))), None)


def _size(value: Any) -> int:
    return len((value if isinstance(value, str) else json.dumps(value, default=str)).encode())


def _limit(what: str, limit: int, *keys: str) -> Callable[[Mapping[str, Any]], str | None]:
    def check(given: Mapping[str, Any]) -> str | None:
        value: Any = given
        for key in keys:
            value = value.get(key) or {}
        size = _size(value)
        return f"{what} has {size} bytes; AWS takes {limit}" if size > limit else None

    return check


def _nodes(given: Mapping[str, Any]) -> str | None:
    """Each node of a multi-node job has the limit of a container."""
    check = _limit("Container Overrides of a node", MAX_OVERRIDES_BYTES, "containerOverrides")
    nodes = (given.get("nodeOverrides") or {}).get("nodePropertyOverrides") or []
    return next((problem for one in nodes if (problem := check(one))), None)


def _tags(given: Mapping[str, Any]) -> str | None:
    tags = given.get("tags") or given.get("Tags") or {}
    pairs = [(one.get("Key", one.get("key")), one.get("Value", one.get("value"))) for one in tags] if isinstance(
        tags, list
    ) else list(tags.items())  # fmt: skip
    if len(pairs) > MAX_TAGS:
        return f"there are {len(pairs)} tags; AWS takes {MAX_TAGS}"
    for key, value in pairs:
        if not 1 <= len(key) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE or key.lower().startswith("aws:"):
            return f"{key!r} is no tag that AWS takes"
        if any(not (one.isalnum() or one.isspace() or one in "+-=._:/@") for one in key + value):
            return f"the tag {key!r} has a character that AWS does not take"
    return None


_CHECKS: dict[tuple[str, str], tuple[Callable[[Mapping[str, Any]], str | None], ...]] = {
    ("batch", "SubmitJob"): (
        _limit("the submission", MAX_SUBMISSION_BYTES),
        _limit("Container Overrides", MAX_OVERRIDES_BYTES, "containerOverrides"),
        _nodes,
        _tags,
    ),
    ("batch", "RegisterJobDefinition"): (_limit("the job definition", MAX_DEFINITION_BYTES), _tags),
    ("stepfunctions", "CreateStateMachine"): (_limit("the definition", MAX_MACHINE_BYTES, "definition"), _tags),
    ("stepfunctions", "UpdateStateMachine"): (_limit("the definition", MAX_MACHINE_BYTES, "definition"),),
    ("stepfunctions", "StartExecution"): (_limit("the input", MAX_PAYLOAD_BYTES, "input"),),
    ("events", "PutEvents"): (_limit("the events", MAX_PAYLOAD_BYTES, "Entries"),),
    ("secretsmanager", "CreateSecret"): (_limit("the secret", 65_536, "SecretString"), _tags),
}
