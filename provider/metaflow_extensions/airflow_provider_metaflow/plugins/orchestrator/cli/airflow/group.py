"""The command group ``airflow``."""

from __future__ import annotations

from typing import Any

from metaflow import parameters
from metaflow._vendor import click

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.builder import compiled, make_group
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.options import (
    TOKENS,
    add_options,
    plain_errors_of,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.parameters import GivenOptions
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import DeployRequest
from metaflow_orchestration.compile.deployment.tokens import TokenOptions

from .conf import given_parameters
from .target import AirflowError, AirflowTarget

_TARGET = AirflowTarget()

group = make_group(_TARGET)


@parameters.add_custom_parameters(deploy_mode=False)
@group.command(cls=GivenOptions, help="Run this flow once on an Airflow of its own, exactly as it would be deployed.")
@add_options([*TOKENS, *_TARGET.options.deploy])
@click.option(
    "--home",
    default=None,
    type=click.Path(file_okay=False),
    help="Folder of that Airflow; kept when given, else a temporary one.",
)
@click.pass_obj
@plain_errors_of(AirflowError)
def test(
    obj: Any,
    authorize: str | None,
    generate_new_token: bool,
    given_token: str | None,
    home: str | None,
    **options: Any,
) -> None:
    from airflow_provider_metaflow.embedded.trial import check_airflow, run_once

    check_airflow(obj.flow.name)
    tokens = TokenOptions(authorize=authorize, given=given_token, generate=generate_new_token)
    manifest = compiled(_TARGET, obj, DeployRequest(options, tokens, is_trial=True))
    values = given_parameters(obj, options)
    if not run_once(manifest, values, home):
        raise AirflowError("The run of *%s* failed." % manifest.deployment.name)
