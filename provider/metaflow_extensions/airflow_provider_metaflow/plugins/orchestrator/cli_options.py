"""What the command groups of all orchestrators share. Loaded only when one of them is used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException

from airflow_provider_metaflow.exceptions import MetaflowProviderError

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


def token_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about production tokens."""
    options = [
        click.option(
            "--authorize",
            default=None,
            help="Authorize using this production token. You need this when you are re-deploying an existing flow "
            "for the first time. The token is cached in METAFLOW_HOME, so you only need to specify this once.",
        ),
        click.option(
            "--generate-new-token",
            is_flag=True,
            help="Generate a new production token for this flow. This will move the production flow to a new "
            "namespace.",
        ),
        click.option(
            "--new-token",
            "given_token",
            default=None,
            help="Use the given production token for this flow. This will move the production flow to the given "
            "namespace.",
        ),
    ]
    return add_options(options)(command)
