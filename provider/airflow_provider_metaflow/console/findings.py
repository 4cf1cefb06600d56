"""What an examination has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    :param subject: what.
    :param state: ``ok``; ``none`` for what is not there and need not be; ``warning``: flows run, but perhaps not as
        somebody expects; ``error``: flows do not run.
    :param text: what was found.
    :param fix: what to do about it.
    """

    subject: str
    state: str
    text: str
    fix: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it keeps flows from running."""
        return self.state == "error"


_STYLES = {"ok": "green", "none": "dim", "warning": "yellow", "error": "bold red"}


def summary(findings: Sequence[Finding]) -> str:
    """Return how many errors and warnings there are.

    :param findings: the findings.
    """
    counts = [(sum(one.state == state for one in findings), state) for state in ("error", "warning")]
    return ", ".join(f"{count or 'no'} {state}{'' if count == 1 else 's'}" for count, state in counts) + "."


def json_of(findings: Sequence[Finding], **about: Any) -> dict[str, Any]:
    """Return the findings for ``--json``.

    :param findings: the findings.
    :param about: what was examined.
    """
    counts = {f"{state}s": sum(one.state == state for one in findings) for state in ("error", "warning")}
    return {**about, **counts, "findings": [asdict(one) for one in findings]}


def table_of(findings: Sequence[Finding], title: str) -> Table:
    """Return the findings as a table.

    :param findings: the findings.
    :param title: title of the table.
    """
    table = Table(title=title, title_justify="left", caption=summary(findings), caption_justify="left")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for one in findings:
        table.add_row(Text(one.state, style=_STYLES[one.state]), Text(one.subject), Text(one.text), Text(one.fix))
    return table
