"""Makes the command group of an orchestrator from its ``Target``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from metaflow._vendor import click

from metaflow_orchestration.compile.deployment.tokens import TokenOptions
from metaflow_orchestration.compile.reading.container_settings import secret_warnings
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest, write_atomically

from .check_verb import CHECK, show_check
from .messages import write_attributes
from .options import CREATED, FILE, MANIFEST_ONLY, TOKENS, add_options, plain_errors_of
from .run_verbs import add_run_verbs
from .target import DeployRequest, Target
from .verb_help import Verbs


def make_group(target: Target) -> Any:
    """Return the command group of an orchestrator, with all verbs that its options name.

    Example: ``group = make_group(ArgoTarget())``.

    :param target: the orchestrator.
    """
    options = target.options
    plain_errors = plain_errors_of(target.error)

    @click.group(target.name, cls=Verbs, variables=options.variables, help=options.help)
    @click.option("--name", default=None, type=str, help=options.name_help)
    @click.pass_obj
    @plain_errors
    def group(obj: Any, name: str | None = None) -> None:
        obj.check(obj.graph, obj.flow, obj.environment, pylint=obj.pylint)
        target.select(obj, name)

    _add_create(group, target)
    _add_check(group, target)
    add_run_verbs(group, target)
    return group


def compiled(target: Target, obj: Any, request: DeployRequest) -> Manifest:
    """Compile a flow that is to be deployed, and print what the user should know of it.

    :param target: the orchestrator.
    :param obj: state of Metaflow's command line.
    :param request: what was asked for.
    """
    manifest = target.compile(obj, request)
    for warning in (*target.warnings(manifest), *secret_warnings(manifest)):
        print("Warning: %s" % warning, file=sys.stderr)
    return manifest


def _add_create(group: Any, target: Target) -> None:
    @group.command("create", help=target.options.verbs["create"].help)
    @FILE
    @add_options([*TOKENS, *target.options.deploy, MANIFEST_ONLY, CREATED])
    @click.pass_obj
    @plain_errors_of(target.error)
    def create(
        obj: Any,
        file: str | None,
        authorize: str | None,
        generate_new_token: bool,
        given_token: str | None,
        manifest_only: bool,
        deployer_attribute_file: str | None,
        **options: Any,
    ) -> None:
        if manifest_only and not file:
            raise click.UsageError("--manifest-only needs the FILE that the manifest is written to.")
        tokens = TokenOptions(authorize=authorize, given=given_token, generate=generate_new_token)
        request = DeployRequest(options, tokens, file, manifest_only)
        manifest = compiled(target, obj, request)
        if manifest_only:
            write_atomically(Path(file or ""), encode_manifest(manifest))
            return
        additional = target.deploy(obj, manifest, request)
        write_attributes(
            deployer_attribute_file,
            name=target.deployment_name(obj),
            flow_name=obj.flow.name,
            metadata=obj.metadata.metadata_str(),
            **({"additional_info": additional} if additional else {}),
        )


def _add_check(group: Any, target: Target) -> None:
    verb = target.options.verbs["check"]

    @group.command("check", help=verb.help)
    @add_options([*CHECK, *verb.options, *target.options.deploy])
    @click.pass_obj
    @plain_errors_of(target.error)
    def check(obj: Any, width: int, as_json: bool, **options: Any) -> None:
        request = DeployRequest(options)
        if target.print_checked(obj, request):
            return

        def compile_it() -> Manifest:
            return target.compile(obj, request)

        def make_target(manifest: Manifest) -> Any:
            return target.check_target(obj, manifest, request)

        show_check(obj, target.check_name, width, compile_it, make_target, as_json=as_json)
