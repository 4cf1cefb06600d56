"""The command line: compile, show, check, compare, validate, pools, doctor."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, encode_manifest, read_manifest, write_atomically
from metaflow_orchestration.exceptions import MetaflowProviderError

from .findings import Finding, json_of, table_of

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MetaflowProviderError as error:
            raise click.ClickException(str(error)) from None

    return wrapped


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))


def _report(examine: Callable[[], Iterable[Finding]], title: str, as_json: bool, **about: Any) -> None:
    """Print findings, and exit with 1 if there is an error among them."""
    # What DAG files print, and Airflow's log of their import, is no part of the result.
    with contextlib.redirect_stdout(sys.stderr):
        findings = list(examine())
    if as_json:
        _print_json(json_of(findings, **about))
    else:
        _console().print(table_of(findings, title))
    if any(finding.is_error for finding in findings):
        sys.exit(1)


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
@click.option(
    "--project-root",
    default=None,
    type=click.Path(exists=True, file_okay=False),
    help="Folder that the flow is started from; default: its own.",
)
@_JSON
@click.argument("create_options", nargs=-1)
@_plain_errors
def compile_flow(
    what: Path,
    output: Path | None,
    python: str,
    name: str | None,
    top: tuple[str, ...],
    project_root: str | None,
    as_json: bool,
    create_options: tuple[str, ...],
) -> None:
    """Compile WHAT: a flow file to a manifest, or all flows of a DAGs folder into `[metaflow] cache_folder`.

    The second is for the build of an image, whose DAG processors and workers then compile nothing. Options of `airflow
    create` may follow a flow file after --.
    """
    if what.is_dir():
        _fill_cache(what, as_json)
    else:
        options = CompileOptions(
            top_level=top, name=name, create=create_options, python=python, project_root=project_root
        )
        _write_manifest(what, output, options, as_json)


def _fill_cache(folder: Path, as_json: bool) -> None:
    from .validate import load_dags

    # Here nobody waits for a parse.
    os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "0"
    _report(lambda: load_dags(folder)[0], f"Metaflow flows below {folder}", as_json, folder=str(folder))


def _write_manifest(flow: Path, output: Path | None, options: CompileOptions, as_json: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        manifest = load_manifest(flow.resolve(), options, Path(cache))
    target = output or flow.with_suffix(SUFFIX)
    write_atomically(target, encode_manifest(manifest))
    name, steps = manifest.graph.name, len(manifest.graph.steps)
    if as_json:
        deployment = manifest.deployment.name
        _print_json({"flow": name, "deployment": deployment, "steps": steps, "manifest": str(target)})
    else:
        click.echo(f"{name}: {steps} steps, written to {target}")


@main.command()
@click.argument("what", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_JSON
@_plain_errors
def show(what: Path, as_json: bool) -> None:
    """Show the graph of WHAT, a manifest or a flow file, in the terminal."""
    from .graph import describe, render

    if as_json:
        _print_json(describe(_manifest(what)))
    else:
        _console().print(render(_manifest(what)))


@main.command()
@click.argument("flow", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", "first", default=None, help="Orchestrators: airflow, argo, step-functions; default: all.")
@click.option("--width", default=10, show_default=True, type=click.IntRange(min=1),
              help="Number of splits of each foreach, for sizes and costs.")  # fmt: skip
@_JSON
@click.option("--python", default=sys.executable, help="Interpreter that has the flow's imports.")
@click.option("--name", default=None, help="Name of the deployment; default: that of the flow.")
@click.option("--top", multiple=True, help="Option before the subcommand, e.g. --top=--with=retry; repeat it.")
@click.argument("others", nargs=-1, metavar="[TARGET]... [CREATE_OPTIONS]...")
@_plain_errors
def check(
    flow: Path,
    first: str | None,
    width: int,
    as_json: bool,
    python: str,
    name: str | None,
    top: tuple[str, ...],
    others: tuple[str, ...],
) -> None:
    """Show what orchestrators would do with FLOW: refusals, names, sizes, costs, schedule, and what it needs.

    Several targets may follow each other: --target airflow argo step-functions. Options of `create` that all of them
    know may follow after --. Nothing is deployed. The exit status is 1 if a target refuses the flow, or a run with that
    many splits would break a quota.
    """
    from metaflow_orchestration.check.flow import GROUPS, check_flow
    from metaflow_orchestration.check.table import render

    further = tuple(itertools.takewhile(lambda one: first is not None and not one.startswith("-"), others))
    targets = [one for text in (first, *further) if text for one in text.split(",")]
    report = check_flow(
        flow,
        targets or tuple(GROUPS),
        width=width,
        name=name,
        top_level=top,
        create=others[len(further) :],
        python=python,
    )
    click.echo(report.to_json() if as_json else render(report))
    sys.exit(report.exit_code)


@main.command()
@click.argument("left", metavar="RUN")
@click.argument("right", metavar="RUN")
@click.option("--values", is_flag=True, help="Load artifacts whose content differs, and compare their values.")
@click.option("--logs/--no-logs", default=True, show_default=True, help="Compare what the tasks have written.")
@_JSON
@_plain_errors
def compare(left: str, right: str, values: bool, logs: bool, as_json: bool) -> None:
    """Compare two finished runs (Flow/run-id) of any orchestrator: artifacts, lineage, tags and logs.

    Artifacts are compared by the hashes of their content; only the graph, which Metaflow stores with each task, is
    loaded. With --values artifacts that differ are loaded here, as Metaflow's client does, so use it for runs that you
    trust. The exit status is 1 if anything differs but Metaflow's own tags.
    """
    from metaflow_orchestration.compare.model import compare_runs
    from metaflow_orchestration.compare.read import Reader, equality
    from metaflow_orchestration.compare.table import render

    first, second = (Reader(one, with_logs=logs) for one in (left, right))
    found = compare_runs(first.record(), second.record(), equality(first, second) if values else None)
    click.echo(found.to_json() if as_json else render(found))
    sys.exit(found.exit_code)


@main.command()
@click.argument("folder", type=_FOLDER)
@_JSON
@_plain_errors
def validate(folder: Path, as_json: bool) -> None:
    """Check every manifest and DAG below FOLDER: import, capabilities, pools, connections, schema."""
    from .validate import validate_folder

    _report(lambda: validate_folder(folder), f"Metaflow flows below {folder}", as_json, folder=str(folder))


@main.command()
@click.argument("folder", type=_FOLDER)
@click.option("--output", "-o", type=_FILE, default=None, help="Write a file for `airflow pools import`.")
@click.option("--slots", default=16, show_default=True, help="Size of each pool.")
@click.option("--create", is_flag=True, help="Create the pools that are missing, through METAFLOW_AIRFLOW_URL.")
@_JSON
@_plain_errors
def pools(folder: Path, output: Path | None, slots: int, create: bool, as_json: bool) -> None:
    """List the pools that the flows below FOLDER ask for."""
    from airflow_provider_metaflow.deploy.dag_file import pools_json

    from .pools import create_missing, pools_of, table_of_pools

    names = pools_of(folder)
    created = create_missing(list(names), slots) if create else None
    if output is not None:
        write_atomically(output, pools_json(list(names), slots))
    if as_json:
        written = None if output is None else str(output)
        found = [{"pool": pool, "deployments": flows} for pool, flows in names.items()]
        _print_json({"folder": str(folder), "pools": found, "written": written, "created": created})
        return
    _console().print(table_of_pools(names, created, f"Pools of the Metaflow flows below {folder}"))
    if output is not None:
        click.echo(f"Written to {output}; import it with: airflow pools import {output}")


@main.command()
@_JSON
def doctor(as_json: bool) -> None:
    """Show what is installed and configured here, what is missing, and how to fix it.

    The exit status is 1 if there is an error: something without which flows do not run as they are configured here.
    """
    from .doctor import examine

    title = f"airflow-provider-metaflow on {sys.executable}"
    _report(examine, title, as_json, python=sys.executable)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion of this command for SHELL, e.g. for eval "$(metaflow-airflow completion bash)"."""
    from click.shell_completion import get_completion_class

    made: Any = get_completion_class(shell)
    click.echo(made(main, {}, "metaflow-airflow", "_METAFLOW_AIRFLOW_COMPLETE").source())


def _manifest(path: Path) -> Manifest:
    if path.name.endswith(SUFFIX):
        return read_manifest(path)
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        return load_manifest(path.resolve(), CompileOptions(python=sys.executable), Path(cache))


if __name__ == "__main__":
    main()
