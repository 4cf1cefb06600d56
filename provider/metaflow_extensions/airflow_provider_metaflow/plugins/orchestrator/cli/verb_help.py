"""The ``--help`` of the verbs of all orchestrators: options in groups, and the environment variables that count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metaflow._vendor import click

_SECTIONS = (
    ("Notifications", ("notify_", "incident_io_")),
    ("Production token", ("authorize", "generate_new_token", "given_token")),
)
_OPTIONS, _PARAMETERS = "Options", "Parameters of the flow"

_WIDTH = 110
"""Widest that help gets, where the terminal is as wide; click stops at 80."""
_NAMES = 34
"""Widest that names of options get before their text begins on the next line."""


class Verb(click.Command):
    """A verb whose help shows its options in groups, one a line where the terminal is wide enough."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = {"max_content_width": _WIDTH, **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **kwargs)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups of options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        own = {id(one) for one in getattr(self, "original_params", None) or self.params}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                title = _section(option.name) if id(option) in own or option.name == "help" else _PARAMETERS
                groups.setdefault(title, []).append((_names(option), _text(record[1])))
        for title in (_PARAMETERS, _OPTIONS, *(title for title, _ in _SECTIONS)):
            if title in groups:
                with formatter.section(title):
                    _write_rows(formatter, groups[title])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the environment variables."""
        group = ctx.parent.command if ctx.parent is not None else None
        if isinstance(group, Verbs) and (rows := group.variables_of(ctx.info_name)):
            with formatter.section("Environment variables"):
                _write_rows(formatter, rows)
        super().format_epilog(ctx, formatter)


class Verbs(click.Group):
    """A group of verbs.

    :param variables: environment variables by the verbs that read them, each with its text; those of ``""`` are read by
        all verbs that are not named.
    """

    def __init__(
        self, *args: Any, variables: Mapping[str, Sequence[tuple[str, str]]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._variables = variables or {}

    def command(self, *args: Any, **kwargs: Any) -> Any:
        """Return a decorator that makes a verb."""
        return super().command(*args, **{"cls": Verb, **kwargs})

    def variables_of(self, verb: str | None) -> Sequence[tuple[str, str]]:
        """Return the environment variables that a verb reads.

        :param verb: its name.
        """
        return self._variables.get(verb or "", self._variables.get("", ()))


def _section(name: str) -> str:
    return next((title for title, starts in _SECTIONS if name.startswith(starts)), _OPTIONS)


def _names(option: Any) -> str:
    """Return an option as it is written, a pair of flags as ``--[no-]flag``."""
    first = option.opts[-1]
    if option.secondary_opts:
        return "--[no-]%s" % first[2:]
    return first if option.is_flag or option.count else "%s %s" % (first, option.make_metavar())


def _text(text: str) -> str:
    """Return the text of an option; a flag is off unless it says otherwise."""
    return text.replace("[default: False]", "").replace("[default: True]", "[default: on]").rstrip()


def _write_rows(formatter: Any, rows: Iterable[tuple[str, str]]) -> None:
    """Write names and texts in two columns. Click leaves a line blank after each text of several lines."""
    rows = list(rows)
    first = min(max(len(name) for name, _ in rows), _NAMES) + 2
    width = max(formatter.width - formatter.current_indent - first, 20)
    indent = " " * formatter.current_indent
    for name, text in rows:
        lines = click.formatting.wrap_text(text, width).splitlines() or [""]
        if len(name) > _NAMES:
            formatter.write("%s%s\n" % (indent, name))
        else:
            formatter.write(("%s%s%s" % (indent, name.ljust(first), lines.pop(0))).rstrip() + "\n")
        for line in lines:
            formatter.write("%s%s%s\n" % (indent, " " * first, line))
