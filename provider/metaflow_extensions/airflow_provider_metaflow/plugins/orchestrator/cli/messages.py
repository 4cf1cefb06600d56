"""What the commands print, and what they write for Metaflow's Deployer."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaflow._vendor import click
from metaflow.metaflow_config import UI_URL

from metaflow_orchestration.documents.manifest import Manifest

from .target import Target


def print_data(text: str) -> None:
    """Print text for other programs, or of other programs, byte for byte on standard output.

    Metaflow's ``echo`` is for messages: it takes pairs of ``*`` for emphasis and drops them.

    :param text: documents, names and log lines.
    """
    click.echo(text)


def print_json(document: Any) -> None:
    """Print a document for other programs.

    :param document: of JSON types, and times.
    """
    click.echo(json.dumps(document, indent=2, default=str))


def write_attributes(path: str | None, **attributes: Any) -> None:
    """Write the attributes for which Metaflow's Deployer waits at the other end of a pipe."""
    if path:
        Path(path).write_text(json.dumps(attributes), encoding="utf-8")


def report_started(obj: Any, options: Mapping[str, Any], target: Target, run_id: str) -> None:
    """Report a run that was started: to the user, to a file, and to Metaflow's Deployer.

    :param obj: state of Metaflow's command line.
    :param options: values of the options of ``trigger`` or ``resume``.
    :param target: the orchestrator.
    :param run_id: Metaflow run id.
    """
    write_run_id(options, run_id)
    name = target.deployment_name(obj)
    write_attributes(
        options["deployer_attribute_file"],
        name=name,
        metadata=obj.metadata.metadata_str(),
        pathspec="%s/%s" % (obj.flow.name, run_id),
    )
    obj.echo("%s *%s* triggered on %s (run-id *%s*)." % (target.what, name, target.title, run_id), bold=True)
    if UI_URL:
        obj.echo("See the run in the UI at %s/%s/%s" % (UI_URL.rstrip("/"), obj.flow.name, run_id))


def write_run_id(options: Mapping[str, Any], run_id: str) -> None:
    """Write a run id to the file that was asked for.

    :param options: values of the options of ``trigger`` or ``resume``.
    :param run_id: Metaflow run id.
    """
    if options["run_id_file"]:
        Path(options["run_id_file"]).write_text(run_id, encoding="utf-8")


def report_deployed(obj: Any, manifest: Manifest, group: str) -> None:
    """Print the namespace of a deployed flow, and what starts its runs.

    :param obj: state of Metaflow's command line.
    :param manifest: the compiled flow.
    :param group: command group of the orchestrator.
    """
    graph = manifest.graph
    report_namespace(obj, manifest, group)
    if graph.schedule is not None:
        rhythm = (graph.schedule.cron, graph.schedule.timezone or "UTC")
        # The stars of a cron expression are no emphasis.
        obj.echo("It runs by the schedule %s (%s)." % rhythm, no_bold=True)
    if graph.triggers:
        names = ", ".join(one.event for one in graph.triggers)
        obj.echo("It runs when all of these events have come: %s." % names, no_bold=True)
    if graph.schedule is None and not graph.triggers:
        obj.echo("Nothing starts it by itself. Start a run with")
        obj.echo("    %s" % command_of("trigger", group), fg="green")


def report_namespace(obj: Any, manifest: Manifest, group: str) -> None:
    """Print the namespace of a deployed flow, how to read its results, and how others may deploy it.

    :param obj: state of Metaflow's command line.
    :param manifest: the compiled flow.
    :param group: command group of the orchestrator.
    """
    token = manifest.deployment.production_token.removeprefix("production:")
    # In which the steps look for other results; without, that of the token.
    namespace = manifest.deployment.namespace
    obj.echo("The namespace of this production flow is")
    obj.echo("    production:%s" % token, fg="green")
    if namespace is not None:
        obj.echo("Its steps read the results of other flows in the namespace %s." % namespace)
    obj.echo("To analyze results of this production flow add this line in your notebooks:")
    obj.echo('    namespace("production:%s")' % token, fg="green")
    obj.echo("If you want to authorize other people to deploy new versions of this flow, they need to call")
    obj.echo("    %s create --authorize %s" % (group, token), fg="green")
    obj.echo("when they deploy it for the first time.")


def command_of(verb: str, group: str) -> str:
    """Return the command line by which the user calls another verb on the deployment that this one is about.

    :param verb: the verb with its options.
    :param group: command group of the orchestrator.
    """
    arguments = list(sys.argv)
    # As the user has called it, with the options of Metaflow and of the group.
    end = arguments.index("create") if "create" in arguments else len(arguments)
    if group not in arguments[:end]:
        return "%s %s" % (group, verb)
    return "python %s %s" % (shlex.join(arguments[:end]), verb)
