"""Who asks for a change of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for a run, by which it is checked whether it is theirs.

    :param flow: name of the flow.
    :param user: user.
    :param project: name of the ``@project``.
    :param branch: its branch.
    :param token: production token that the user has.
    """

    flow: str
    user: str
    project: str | None = None
    branch: str | None = None
    token: str | None = None
