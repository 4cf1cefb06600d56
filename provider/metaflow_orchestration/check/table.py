"""Reports as tables for a terminal."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .report import Report, Row, State

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.EXCEEDED: "bold red", State.REFUSED: "bold red"}
_WIDE = 200
"""Columns of output that goes to no terminal."""


def table_of(report: Report) -> Table:
    """Return a report as a table.

    :param report: the report.
    """
    title = f"{report.flow}, with {report.width:,} split{'s' if report.width != 1 else ''} in each foreach"
    table = Table(title=title, title_justify="left")
    has_fixes = any(row.fix for row in report.rows)
    for column in ("topic", "target", "what", "found", "share", "state", *(["what to do"] if has_fixes else [])):
        table.add_column(column, justify="right" if column == "share" else "left", overflow="fold")
    for number, row in enumerate(report.rows):
        is_last = number + 1 == len(report.rows) or report.rows[number + 1].topic is not row.topic
        is_first = number == 0 or report.rows[number - 1].topic is not row.topic
        cells = [
            Text(row.topic.value if is_first else ""),
            Text(row.target),
            Text(row.subject),
            Text(row.found),
            Text(_share(row)),
            Text(row.state.value, style=_STYLES[row.state]),
        ]
        table.add_row(*cells, *([Text(row.fix)] if has_fixes else []), end_section=is_last)
    return table


def _share(row: Row) -> str:
    if row.share is None:
        return ""
    return "< 0.1 %" if 0 < row.share < 0.001 else f"{100 * row.share:,.1f} %"


def render(report: Report) -> str:
    """Return a report as the text of a table, coloured on a terminal only.

    :param report: the report.
    """
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDE)
    with console.capture() as captured:
        console.print(table_of(report))
    return captured.get()
