"""What an examination has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    :param subject: what.
    :param state: ``ok``, ``warning`` or ``error``.
    :param text: what was found.
    :param mend: what to do about it.
    """

    subject: str
    state: str
    text: str
    mend: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it keeps flows from running."""
        return self.state == "error"


_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def table_of(findings: Sequence[Finding], title: str) -> Table:
    """Return the findings as a table.

    :param findings: the findings.
    :param title: title of the table.
    """
    table = Table(title=title, title_justify="left")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for one in findings:
        table.add_row(Text(one.state, style=_STYLES[one.state]), Text(one.subject), Text(one.text), Text(one.mend))
    return table
