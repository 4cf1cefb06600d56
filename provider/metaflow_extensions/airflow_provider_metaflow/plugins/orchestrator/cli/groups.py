"""The command groups that this extension adds to ``python flow.py``, each loaded when it is used.

Metaflow loads the groups of all extensions, in the order of a set, until one of them has the command that it looks for:
also in the container of a task, where the code package brings this extension and nothing that it needs. A group that
fails to load there takes commands of Metaflow itself with it, ``card create`` among them. So this module imports
Metaflow alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException


class MissingPackageError(MetaflowException):
    headline = "Package not installed"


class LazyCommandGroup(click.Group):
    """A plugin of Metaflow with one command, which is imported when it is asked for.

    Where it cannot be imported, the command says what to install.

    Example: ``LazyCommandGroup("argo-workflows", "argo")``.

    :param command: name of the command.
    :param package: package beside this module whose module ``group`` has the command as ``group``.
    """

    def __init__(self, command: str, package: str) -> None:
        # Metaflow reads the plugin's name from the keys of `commands`.
        super().__init__("cli", commands={command: None})
        self._package = package

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            return None
        if self.commands[cmd_name] is None:
            try:
                self.commands[cmd_name] = import_module(".%s.group" % self._package, __package__).group
            except ImportError as error:
                self.commands[cmd_name] = _unavailable(cmd_name, error)
        return self.commands[cmd_name]


def _unavailable(name: str, error: ImportError) -> Any:
    """Return a command that takes any arguments and says which package is missing."""

    def fail(**_arguments: Any) -> None:
        raise MissingPackageError(
            "The command *%s* needs the package airflow-provider-metaflow, which cannot be imported here (%s). "
            "Install it where flows are deployed: pip install airflow-provider-metaflow. "
            "Containers of tasks need Metaflow only." % (name, error)
        )

    return click.Command(
        name,
        callback=fail,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        help="Not available here: the package airflow-provider-metaflow is not installed.",
        add_help_option=False,
    )


airflow = LazyCommandGroup("airflow", "airflow")
argo = LazyCommandGroup("argo", "argo")
sfn = LazyCommandGroup("sfn", "sfn")
argo_workflows = LazyCommandGroup("argo-workflows", "argo")
step_functions = LazyCommandGroup("step-functions", "sfn")
