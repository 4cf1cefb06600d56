"""What a process of Metaflow that has failed says about the reason."""

from __future__ import annotations

import re


def complaint(stdout: str, stderr: str) -> str:
    """Return what went wrong in a process of Metaflow: its own message, or the end of a traceback.

    :param stdout: what it wrote.
    :param stderr: what it wrote there.
    """
    lines = [line for line in (stdout + stderr).splitlines() if line.strip()]
    chatter = re.compile(r"^(Metaflow \S+ executing|Validating your flow|Running pylint|\s+The graph looks|Warning:)")
    lines = [line for line in lines if not chatter.match(line)]
    return "\n".join(lines[-15:])


def step_named(text: str) -> str | None:
    """Return the step that a message of Metaflow names, if it names one.

    :param text: the message.
    """
    found = re.search(r"[Ss]tep \*?(\w+)\*?", text)
    return found.group(1) if found else None
