"""The command line reference, read from the click commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GROUPS = {
    "airflow": "Deploy to Airflow, start and watch runs there.",
    "argo": "The same for Argo Workflows; needs the extra `argo`.",
    "sfn": "The same for AWS Step Functions; needs the extra `step-functions`.",
}


def page() -> str:
    """Return the page in Markdown."""
    from airflow_provider_metaflow.console.main import main

    lines = [
        "# Command line reference",
        "",
        "Generated from the commands of this version. `--help` after any command shows the same in the terminal.",
        "",
        (
            "Where a command takes the parameters of a flow, it has one option per parameter of that flow, e.g. `--alpha 0.5`;"
            " they are not listed here."
        ),
        "",
        "Options of the flow itself stand before the group: `python flow.py --datastore=s3 --with retry airflow create`.",
        "",
    ]
    for name, about in GROUPS.items():
        group = flow_group(name)
        lines += [f"## python flow.py {name}", "", about, "", *_options(group)]
        for command in sorted(group.commands):
            lines += _command(f"python flow.py {name} {command}", group.commands[command])
    lines += ["## metaflow-airflow", "", _help(main), "", *_options(main)]
    for command in sorted(main.commands):
        lines += _command(f"metaflow-airflow {command}", main.commands[command])
    return "\n".join(lines)


def flow_group(name: str) -> Any:
    """Return a command group of ``python flow.py``, as Metaflow finds it.

    :param name: ``airflow``, ``argo`` or ``sfn``.
    """
    from metaflow.plugins import get_plugin_cli

    for group in get_plugin_cli():
        # Ours load their command when it is asked for.
        if name in group.commands and type(group).__module__.startswith(
            "metaflow_extensions.airflow_provider_metaflow"
        ):
            return group.get_command(None, name)
    raise LookupError(f"Metaflow has no command group {name!r} of this package")


def options_of(command: Any) -> Iterator[str]:
    """Yield the names of a command's options, e.g. ``--name``.

    :param command: the click command.
    """
    for option in command.params:
        yield from (*option.opts, *option.secondary_opts)


def _command(name: str, command: Any) -> list[str]:
    if getattr(command, "hidden", False):
        return []
    arguments = " ".join(
        f"{one.human_readable_name.upper()}" if one.required else f"[{one.human_readable_name.upper()}]"
        for one in command.params
        if one.param_type_name == "argument"
    )
    usage = f"{name} [OPTIONS] {arguments}".rstrip()
    return [f"### {name}", "", _help(command), "", "```text", usage, "```", "", *_options(command)]


def _help(command: Any) -> str:
    return " ".join((command.help or "").replace("\b", "").split())


def _options(command: Any) -> list[str]:
    shown = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    if not shown:
        return []
    rows = [f"| {_names(one)} | {_meaning(one)} |" for one in shown]
    return ["| option | meaning |", "|---|---|", *rows, ""]


def _names(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    value = (
        ""
        if option.is_flag or option.count
        else f" {option.make_metavar() if _plain(option) else option.type.name.upper()}"
    )
    return ", ".join(f"`{name}{value}`" for name in names)


def _plain(option: Any) -> bool:
    # Newer releases of click want a context to name a value; Metaflow's own copy does not.
    return "ctx" not in option.make_metavar.__code__.co_varnames


def _meaning(option: Any) -> str:
    text = " ".join((option.help or "").split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    default = option.default
    if option.show_default and default not in (None, (), False) and not callable(default):
        text += f" Default: `{default}`."
    return text + (" Required." if option.required else "")
