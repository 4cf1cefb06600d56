"""The verb ``check`` of all groups: it compiles, plans and validates as ``create`` does, and deploys nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException

from metaflow_orchestration.check.counts import DEFAULT_WIDTH
from metaflow_orchestration.compile.reading.container_settings import secret_warnings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import FlowCompileError, MetaflowProviderError

if TYPE_CHECKING:
    # `create` loads this module, too, and needs none of them.
    from metaflow_orchestration.check.report import Report
    from metaflow_orchestration.check.target import Target


def _at_least_one(_: Any, option: click.Parameter, width: int) -> int:
    if width < 1:
        raise click.BadParameter("%d is not in the range x>=1." % width, param=option)
    return width


# Not of the type `IntRange`, which Metaflow's Deployer does not know: it reads the options of all verbs.
CHECK = [
    click.option("--width", "--splits", "width", default=DEFAULT_WIDTH, show_default=True, type=int,
                 callback=_at_least_one, help="Number of splits of each foreach, for sizes and costs."),
    click.option("--json", "as_json", is_flag=True, default=False, help="Print the result as JSON."),
]  # fmt: skip


def show_check(
    obj: Any,
    target: str,
    width: int,
    compile_it: Callable[[], Manifest],
    make_target: Callable[[Manifest], Target],
    *,
    as_json: bool,
) -> None:
    """Print what an orchestrator would do with the flow of a command line, and exit with 1 if it would not run it.

    :param obj: state of Metaflow's command line.
    :param target: name of the orchestrator.
    :param width: number of splits of each foreach.
    :param compile_it: compiles the flow; uploads nothing.
    :param make_target: returns the orchestrator with the options of the deployment.
    :param as_json: whether JSON is printed, and no table.
    """
    report = _report(obj, target, width, compile_it, make_target)
    # Standard output holds the result alone; Metaflow's messages go to the other one.
    if as_json:
        click.echo(report.to_json())
    else:
        from metaflow_orchestration.check.table import render

        click.echo(render(report))
    if report.exit_code:
        sys.exit(report.exit_code)


def _report(
    obj: Any,
    target: str,
    width: int,
    compile_it: Callable[[], Manifest],
    make_target: Callable[[Manifest], Target],
) -> Report:
    from metaflow_orchestration.check.report import Row, State, Topic, make_report
    from metaflow_orchestration.check.target import check_manifest, refused_report

    flow = obj.flow.name
    try:
        manifest = compile_it()
        found = check_manifest(manifest, make_target(manifest), width)
    except MetaflowProviderError as error:
        return refused_report(flow, target, width, error)
    except MetaflowException as error:
        # Metaflow's own rules, e.g. of a decorator that the orchestrator brings along.
        plain = re.sub(r"\*(\S.*?\S|\S)\*", r"\1", str(error))
        hint = "Change the flow or the option that this names; `create` ends with the same message."
        return refused_report(flow, target, width, FlowCompileError(plain, flow=flow, hint=hint))
    rows = [
        Row(target=target, topic=Topic.NEED, subject="secret", found=text, state=State.WARNING)
        for text in secret_warnings(manifest)
    ]
    return make_report(flow, width, (*found.rows, *rows))
