"""The command line: compile, show, validate, pools, doctor."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, encode_manifest, read_manifest, write_atomically
from metaflow_orchestration.exceptions import MetaflowProviderError

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)


def _plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MetaflowProviderError as error:
            raise click.ClickException(str(error)) from None

    return wrapped


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=200)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="airflow-provider-metaflow")
def main() -> None:
    """Look after Metaflow flows that are deployed to Airflow."""


@main.command("compile")
@click.argument("what", type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", type=_FILE, default=None, help=f"Where the manifest goes; default: FLOW{SUFFIX}.")
@click.option("--python", default=sys.executable, help="Interpreter that has the flow's imports.")
@click.option("--name", default=None, help="DAG id; default: the name of the flow.")
@click.option("--top", multiple=True, help="Option before the subcommand, e.g. --top=--with=retry; repeat it.")
@click.argument("create_options", nargs=-1)
@_plain_errors
def compile_flow(
    what: Path,
    output: Path | None,
    python: str,
    name: str | None,
    top: tuple[str, ...],
    create_options: tuple[str, ...],
) -> None:
    """Compile WHAT: a flow file to a manifest, or all flows of a DAGs folder into `[metaflow] cache_folder`.

    The second is for the build of an image, whose DAG processors and workers then compile nothing. Options of `airflow
    create` may follow a flow file after --.
    """
    if what.is_dir():
        _fill_cache(what)
    else:
        options = CompileOptions(top_level=top, name=name, create=create_options, python=python)
        _write_manifest(what, output, options)


def _fill_cache(folder: Path) -> None:
    from .validate import import_dags, report

    # Here nobody waits for a parse.
    os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "0"
    findings = list(import_dags(folder))
    _console().print(report(findings, folder))
    if any(finding.is_error for finding in findings):
        sys.exit(1)


def _write_manifest(flow: Path, output: Path | None, options: CompileOptions) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        manifest = load_manifest(flow.resolve(), options, Path(cache))
    target = output or flow.with_suffix(SUFFIX)
    write_atomically(target, encode_manifest(manifest))
    click.echo(f"{manifest.graph.name}: {len(manifest.graph.steps)} steps, written to {target}")


@main.command()
@click.argument("what", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_plain_errors
def show(what: Path) -> None:
    """Show the graph of WHAT, a manifest or a flow file, in the terminal."""
    from .graph import render

    _console().print(render(_manifest(what)))


@main.command()
@click.argument("folder", type=_FOLDER)
@_plain_errors
def validate(folder: Path) -> None:
    """Check every manifest and DAG below FOLDER: import, capabilities, pools, connections, schema."""
    from .validate import report, validate_folder

    findings = validate_folder(folder)
    _console().print(report(findings, folder))
    if any(finding.is_error for finding in findings):
        sys.exit(1)


@main.command()
@click.argument("folder", type=_FOLDER)
@click.option("--output", "-o", type=_FILE, default=None, help="Write a file for `airflow pools import`.")
@click.option("--slots", default=16, show_default=True, help="Size of each pool.")
@click.option("--create", is_flag=True, help="Make the pools that are missing, through METAFLOW_AIRFLOW_URL.")
@_plain_errors
def pools(folder: Path, output: Path | None, slots: int, create: bool) -> None:
    """List the pools that the flows below FOLDER ask for."""
    from airflow_provider_metaflow.deploy.dag_file import pools_json

    from .pools import create_missing, pools_of

    names = pools_of(folder)
    for pool, flows in names.items():
        click.echo(f"{pool}: {', '.join(flows)}")
    if output is not None:
        write_atomically(output, pools_json(list(names), slots))
        click.echo(f"Written to {output}; import it with: airflow pools import {output}")
    if create:
        for line in create_missing(list(names), slots):
            click.echo(line)


@main.command()
def doctor() -> None:
    """Tell what is installed and configured here, what is missing, and how to mend it."""
    from .doctor import examine, report

    findings = examine()
    _console().print(report(findings))
    if any(finding.is_error for finding in findings):
        sys.exit(1)


def _manifest(path: Path) -> Manifest:
    if path.name.endswith(SUFFIX):
        return read_manifest(path)
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        return load_manifest(path.resolve(), CompileOptions(python=sys.executable), Path(cache))


if __name__ == "__main__":
    main()
