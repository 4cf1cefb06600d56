"""What a state does when it fails: tries again, or goes elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from .asl import CatcherFields, Json, RetrierFields


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

    def to_asl(self) -> RetrierFields:
        """Return the entry as JSON types."""
        found: RetrierFields = {"ErrorEquals": list(self.errors)}
        if self.interval_seconds is not None:
            found["IntervalSeconds"] = self.interval_seconds
        if self.max_attempts is not None:
            found["MaxAttempts"] = self.max_attempts
        if self.backoff_rate is not None:
            found["BackoffRate"] = self.backoff_rate
        if self.max_delay_seconds is not None:
            found["MaxDelaySeconds"] = self.max_delay_seconds
        if self.full_jitter:
            found["JitterStrategy"] = "FULL"
        return found


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

    def to_asl(self) -> CatcherFields:
        """Return the entry as JSON types."""
        found: CatcherFields = {"ErrorEquals": list(self.errors), "Next": self.next}
        if self.output is not None:
            found["Output"] = self.output
        return found
