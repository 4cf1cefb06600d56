"""A comparison as a table for a terminal."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .model import EXPECTED, Comparison

_WIDE = 200
_LONGEST = 80


def render(comparison: Comparison) -> str:
    """Return a comparison as the text of a table, coloured on a terminal only.

    :param comparison: the comparison.
    """
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDE)
    counted = [one for one in comparison.differences if one.kind not in EXPECTED]
    with console.capture() as captured:
        if comparison.differences:
            table = Table(title=f"{comparison.left} and {comparison.right}", title_justify="left")
            for column in ("kind", "where", "what", "left", "right"):
                table.add_column(column, overflow="fold")
            for one in comparison.differences:
                style = "dim" if one.kind in EXPECTED else ""
                cells = (one.kind.value, one.where, one.name, _short(one.left), _short(one.right))
                table.add_row(*(Text(cell) for cell in cells), style=style)
            console.print(table)
        for pathspec in comparison.unfinished:
            console.print(
                Text(f"The end step of {pathspec} has not ended: it still runs, or has failed.", style="yellow")
            )
        size = f"{comparison.tasks:,} tasks and {comparison.artifacts:,} artifacts in both"
        console.print(Text(f"{size}; {len(counted):,} differences beside those of any two runs."))
    return captured.get()


def _short(text: str | None) -> str:
    if text is None:
        return "-"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
