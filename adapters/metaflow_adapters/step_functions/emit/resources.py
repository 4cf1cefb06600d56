"""What a deployment is made of besides its state machine, in the words of AWS's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a deployment is made of besides its state machine, in the words of AWS's API.

    :param job_definitions: for ``RegisterJobDefinition``.
    :param state_machines: definitions of helping state machines, by name.
    :param schedules: for ``CreateSchedule``.
    :param rules: for ``PutRule`` and ``PutTargets``: ``Name``, ``EventPattern``, ``Targets``.
    :param policies: least-privilege policy documents, by the role that needs them; ``deployer`` is who deploys.
    :param uploads: content of objects that must be in S3, by URL.
    """

    job_definitions: tuple[dict[str, Any], ...]
    state_machines: Mapping[str, dict[str, Any]]
    schedules: tuple[dict[str, Any], ...]
    rules: tuple[dict[str, Any], ...]
    policies: Mapping[str, dict[str, Any]]
    uploads: Mapping[str, bytes]
