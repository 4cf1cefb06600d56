"""Mends what moto 5.2.5's EventBridge leaves out: rules that start state machines, and schedules that are due.

A disabled rule fires no event, nor does the rule of a schedule, which has no pattern; in moto both fire all.
"""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

from .authority import Request
from .enforcement import installed


def install() -> None:
    """Mend it; once per process."""
    from moto.events import models
    from moto.stepfunctions.parser.models import stepfunctions_parser_backends

    send = models.Rule.send_to_targets

    def send_to_targets(self: Any, event: Any, transform_input: bool = True) -> None:
        if self.state == "DISABLED" or not self.event_pattern.get_pattern():
            return
        if not self.event_pattern.matches_event(event):
            return
        machines = [one for one in self.targets if ":states:" in one["Arn"]]
        others = copy.copy(self)
        others.targets = [one for one in self.targets if one not in machines]
        send(others, event, transform_input)
        for one in machines:
            _, _, _, region, account = one["Arn"].split(":")[:5]
            enforcement = installed()
            start = Request("states:StartExecution", one["Arn"])
            # AWS drops an event whose target its role does not permit; it only counts a failed invocation.
            if enforcement and not enforcement.permits(one.get("RoleArn", ""), "events.amazonaws.com", start):
                continue
            given = one.get("Input") or json.dumps({**event, "time": _iso(event.get("time"))}, default=str)
            stepfunctions_parser_backends[account][region].start_execution(one["Arn"], None, given)

    models.Rule.send_to_targets = send_to_targets


def _iso(moment: Any) -> str:
    """Return a time as events hold it; moto has seconds."""
    return datetime.fromtimestamp(float(moment), tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
