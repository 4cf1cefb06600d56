"""What a state does when it fails: tries again, or goes elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier:
    """One entry of ``Retry``; fields that are None are left to their defaults.

    :param errors: names of errors.
    :param interval_seconds: pause before the first retry; 1 by default.
    :param max_attempts: 3 by default.
    :param backoff_rate: 2.0 by default.
    :param max_delay_seconds: longest pause.
    :param full_jitter: whether a pause is anything up to its length.
    """

    errors: tuple[str, ...]
    interval_seconds: int | None = None
    max_attempts: int | None = None
    backoff_rate: float | None = None
    max_delay_seconds: int | None = None
    full_jitter: bool = False

    def to_asl(self) -> Json:
        """Return the entry as JSON types."""
        found = {
            "ErrorEquals": list(self.errors),
            "IntervalSeconds": self.interval_seconds,
            "MaxAttempts": self.max_attempts,
            "BackoffRate": self.backoff_rate,
            "MaxDelaySeconds": self.max_delay_seconds,
            "JitterStrategy": "FULL" if self.full_jitter else None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catcher:
    """One entry of ``Catch``.

    :param errors: names of errors.
    :param next: where to go.
    :param output: what goes there; the description of the error if left out.
    """

    errors: tuple[str, ...]
    next: str
    output: Json = None

    def to_asl(self) -> Json:
        """Return the entry as JSON types."""
        output = {} if self.output is None else {"Output": self.output}
        return {"ErrorEquals": list(self.errors), "Next": self.next, **output}
