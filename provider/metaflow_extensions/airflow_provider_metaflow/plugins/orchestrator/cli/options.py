"""Options that the command groups of all orchestrators share. Loaded only when one of them is used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException

from metaflow_orchestration.exceptions import MetaflowProviderError

Command = Callable[..., Any]


def plain_errors_of(kind: type[MetaflowException]) -> Callable[[Command], Command]:
    """Return a decorator that shows our errors as Metaflow shows its own: a headline and a message, no traceback.

    :param kind: the error to raise in their place.
    """

    def plain_errors(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return command(*args, **kwargs)
            except MetaflowProviderError as error:
                raise kind(str(error)) from None

        return wrapped

    return plain_errors


def add_options(options: Sequence[Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in their order.

    :param options: decorators of ``click.option``.
    """

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


AUTHORIZE = click.option(
    "--authorize", default=None, metavar="TOKEN", help="Production token of the deployment, if it is not yours."
)

RUN_ID = click.argument("run-id", required=True, type=str)

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

WAIT = click.option("--wait", is_flag=True, help="Wait for the end of the run; exit with 1 if it failed.")

WATCH = click.option("--watch", is_flag=True, help="Wait for the end of the run; exit with 1 if it failed.")

STARTED = [
    WAIT,
    click.option("--run-id-file", default=None, type=str, metavar="FILE", help="Write the run id to this file."),
    click.option("--deployer-attribute-file", default=None, hidden=True,
                 help="Write metadata and pathspec of this run to this file. Used by Metaflow's Deployer API."),
]  # fmt: skip

RESUME = [
    click.argument("run-id", required=False, type=str),
    click.option("--origin-run-id", default=None, type=str, help="The same as RUN_ID."),
    click.option("--step-to-rerun", default=None, help="Run this step and all that follow it again."),
]

TAGS = click.option(
    "--tag",
    "tags",
    multiple=True,
    help="Tag of all that the runs produce; may be given several times.",
)

NAMESPACE = click.option(
    "--namespace",
    "user_namespace",
    default=None,
    help="Namespace in which steps look for results of other flows.  [default: that of the production token]",
)

PROJECT_ROOT = click.option(
    "--project-root",
    default=None,
    type=click.Path(file_okay=False),
    help="Folder to package and to start steps from, e.g. the root of the repository.  [default: that of the flow]",
)

TIMEOUT = click.option("--workflow-timeout", default=None, type=int, metavar="SECONDS", help="Timeout of a run.")

CREATED = click.option(
    "--deployer-attribute-file",
    default=None,
    hidden=True,
    help="Write the name of the deployment to this file. Used by Metaflow's Deployer API.",
)

NOTIFY_WHEN = [
    click.option("--notify-on-error/--no-notify-on-error", default=False, show_default=True,
                 help="Notify if a run fails."),
    click.option("--notify-on-success/--no-notify-on-success", default=False, show_default=True,
                 help="Notify if a run succeeds."),
]  # fmt: skip

ALERTS = [
    click.option("--incident-io-alert-source-config-id", default=None, help="Alert source of incident.io."),
    click.option("--incident-io-metadata", multiple=True, type=str,
                 help="Metadata of incident.io's alerts, in the form KEY=VALUE."),
]  # fmt: skip

TOKENS = [
    click.option("--authorize", default=None, metavar="TOKEN",
                 help="Token of a flow that somebody else has deployed; needed once, then METAFLOW_HOME holds it."),
    click.option("--generate-new-token", is_flag=True,
                 help="Generate a new token, which moves the flow to a new namespace."),
    click.option("--new-token", "given_token", default=None, metavar="TOKEN",
                 help="Use this token, which moves the flow to its namespace."),
]  # fmt: skip

FILE = click.argument("file", required=False)
MANIFEST_ONLY = click.option(
    "--manifest-only", is_flag=True, hidden=True, help="Write the manifest to FILE, and deploy nothing."
)
"""How the compiler, in a process of its own, gets the manifest of a flow."""

STEP = click.option("--step", default=None, help="Of this step only.")
ALL_FLOWS = click.option("--all", "all_flows", is_flag=True, help="Or any other flow.")

RESUME_HELP = (
    "Start a run that clones the finished tasks of another; what had failed runs again. Parameters that are "
    "given count in each step that runs; all others are those of the other run."
)
