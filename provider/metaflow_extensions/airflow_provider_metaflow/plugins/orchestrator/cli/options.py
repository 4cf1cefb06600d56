"""What the command groups of all orchestrators share. Loaded only when one of them is used."""

from __future__ import annotations

import functools
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException
from metaflow.metaflow_config import UI_URL
from metaflow.plugins.aws.step_functions.production_token import load_token

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import MetaflowProviderError, MissingExtraError

from .verb_help import Verb

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


def token_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about production tokens."""
    options = [
        click.option(
            "--authorize",
            default=None,
            metavar="TOKEN",
            help="Token of a flow that somebody else has deployed; needed once, then METAFLOW_HOME holds it.",
        ),
        click.option(
            "--generate-new-token",
            is_flag=True,
            help="Generate a new token, which moves the flow to a new namespace.",
        ),
        click.option(
            "--new-token",
            "given_token",
            default=None,
            metavar="TOKEN",
            help="Use this token, which moves the flow to its namespace.",
        ),
    ]
    return add_options(options)(command)


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
    """Tell Metaflow's Deployer, which waits at the other end of a pipe, what it must know."""
    if path:
        Path(path).write_text(json.dumps(attributes), encoding="utf-8")


class GivenOptions(Verb):
    """A command that knows which options were given, and which hold defaults only.

    What is not given is left to the deployment, so no default of a parameter is computed; it may be a file that this
    machine does not have.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        args = self._with_present_names(args)
        if not set(args) & {"--help", "-h"}:
            self._forget_defaults()
        options, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        given = {name for name, value in options.items() if value is not None}
        given.update(option.name for option in self.params if option.resolve_envvar_value(ctx) is not None)
        ctx.meta["given"] = given
        return super().parse_args(ctx, args)

    def _forget_defaults(self) -> None:
        own = {id(one) for one in getattr(self, "original_params", None) or self.params}
        for option in self.params:
            if id(option) not in own:
                option.default = None

    def _with_present_names(self, args: Sequence[str]) -> list[str]:
        """Return the arguments; ``--wait SECONDS`` is refused, which would look as if it waited for the run."""
        found = re.search(r"(?:^|\0)--wait[=\0]([0-9]+)(?=\0|$)", "\0".join(args))
        takes_run_id = any(isinstance(option, click.Argument) for option in self.params)
        if found and not takes_run_id and any("--parse-timeout" in option.opts for option in self.params):
            raise click.UsageError(
                "--wait takes no number: it waits until the run has ended. How long Airflow may take to parse the DAG "
                f"is --parse-timeout {found[1]}."
            )
        return list(args)


class _OptionalOptions(list[Any]):
    """Options of which none must be given, those that are added later included."""

    def __init__(self, options: Iterable[Any] = ()) -> None:
        super().__init__(map(_optional, options))

    def insert(self, index: Any, option: Any) -> None:
        super().insert(index, _optional(option))


def _optional(option: Any) -> Any:
    if isinstance(option, click.Option):
        option.required = False
    return option


class OptionalParameters(GivenOptions):
    """A command for which the parameters of the flow need not be given, for it has values of another run.

    Metaflow adds the options of the parameters when it has read the flow, and its Deployer once more, after it has put
    the options of before into place.
    """

    @property
    def params(self) -> list[Any]:
        """Options and arguments."""
        return self._options

    @params.setter
    def params(self, options: Iterable[Any]) -> None:
        self._options = _OptionalOptions(options)


RESUME = [
    click.argument("run-id", required=False, type=str),
    click.option("--origin-run-id", default=None, type=str, help="The same as RUN_ID."),
    click.option("--step-to-rerun", default=None, help="Run this step and all that follow it again."),
]


def origin_of(obj: Any, run_id: str | None, origin_run_id: str | None) -> str:
    """Return the run that ``resume`` names by its argument or by its option, without the name of the flow.

    :param obj: state of Metaflow's command line.
    :param run_id: the argument.
    :param origin_run_id: the option.
    """
    from metaflow_orchestration.exceptions import InvalidOptionError

    if (run_id is None) == (origin_run_id is None):
        raise click.UsageError("Give the run to resume, by RUN_ID or by --origin-run-id.")
    flow, _, name = (run_id or origin_run_id or "").rpartition("/")
    if flow not in ("", obj.flow.name):
        raise InvalidOptionError("the run %s/%s belongs to the flow %s." % (flow, name, flow), flow=obj.flow.name)
    return name


def stored_values(obj: Any, run_id: str) -> dict[str, Any] | None:
    """Return the required parameters of a run that the orchestrator does not know; None if the datastore has none.

    All others need not be named: a resumed run takes them over from the datastore itself.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id, of whatever deployer, or of ``run``.
    """
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.resumed_run import find_parameters
    from metaflow_orchestration.compile.reading.reader import read_parameters

    try:
        found = find_parameters(obj.flow_datastore, run_id)
    except Exception:  # a datastore that cannot be read here has no run for us, whatever it raises
        found = None
    if found is None:
        return None
    required = [one for one in read_parameters(obj.flow, with_defaults=False) if one.required and one.variable in found]
    values = {one.name: _stored_value(obj, found[one.variable]) for one in required}
    return {name: value for name, value in values.items() if value is not None}


def _stored_value(obj: Any, value: Any) -> Any:
    from metaflow.includefile import IncludedFile

    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.file_parameters import upload

    if not isinstance(value, IncludedFile):
        return value
    # Metaflow's own uploads are not those that a task of ours takes a file from.
    descriptor = value.descriptor
    is_text, encoding = descriptor.get("is_text", True), descriptor.get("encoding") or "utf-8"
    content = value.decode("the file")
    data = content.encode(encoding) if isinstance(content, str) else content
    return json.dumps(upload(data, obj.flow.name, obj.flow_datastore._storage_impl, is_text, encoding))


def stored_texts(obj: Any, run_id: str) -> dict[str, str] | None:
    """Return the same in the text form of Metaflow's command line.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id.
    """
    found = stored_values(obj, run_id)
    if found is None:
        return None
    return {name: value if isinstance(value, str) else _text(value) for name, value in found.items()}


def change_parameters(obj: Any, run_id: str, options: dict[str, Any], given: Collection[str]) -> None:
    """Store parameters as those of a run that goes on in place.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id.
    :param options: values of click, by its own names of options.
    :param given: names of the parameters that were given.
    :raises InvalidOptionError: if the run has no such parameters.
    """
    from metaflow.includefile import IncludedFile

    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import resumed_run
    from metaflow_orchestration.compile.reading.reader import read_parameters
    from metaflow_orchestration.exceptions import InvalidOptionError

    values = {}
    for parameter in read_parameters(obj.flow, with_defaults=False):
        if parameter.name not in given:
            continue
        value = options[parameter.name.replace("-", "_").lower()]
        # As Metaflow's own `init` keeps them (``FlowSpec._set_constants``).
        if parameter.type.value == "file":
            value = IncludedFile(json.loads(parameter_value(obj, value)))
        elif parameter.separator and isinstance(value, str):
            value = value.split(parameter.separator)
        values[parameter.variable] = value
    try:
        resumed_run.change_parameters(obj.flow_datastore, obj.metadata, run_id, values)
    except ValueError as error:
        raise InvalidOptionError(str(error), flow=obj.flow.name) from None


def given_texts(obj: Any, options: dict[str, Any]) -> dict[str, str]:
    """Return the values of the parameters that were given, in the text form of Metaflow's command line.

    :param obj: state of Metaflow's command line.
    :param options: values of click, by its own names of options.
    """
    from metaflow_orchestration.compile.reading.reader import read_parameters

    given = click.get_current_context().meta["given"]
    values = {}
    for parameter in read_parameters(obj.flow, with_defaults=False):
        name = parameter.name.replace("-", "_").lower()
        value = options.get(name)
        if name not in given or value is None:
            continue
        value = parameter_value(obj, value)
        values[parameter.name] = value if isinstance(value, str) else _text(value)
    return values


def parameter_value(obj: Any, value: Any) -> Any:
    """Return what a run is given for a value of click; a file is uploaded, for no run reads files of this machine.

    :param obj: state of Metaflow's command line.
    :param value: the value.
    """
    from metaflow.includefile import IncludedFile

    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.file_parameters import upload

    if isinstance(value, IncludedFile):
        return json.dumps(value.descriptor)
    if not callable(value):
        return value
    # Metaflow's own upload goes beside the datastore where that is a folder, or where METAFLOW_DATATOOLS_… says.
    file = value._fun.keywords["ctx"]
    content = Path(file.path).read_bytes()
    storage = obj.flow_datastore._storage_impl
    return json.dumps(upload(content, file.flow_name, storage, file.is_text, file.encoding))


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def following_steps(obj: Any, step: str) -> tuple[str, ...]:
    """Return a step and all that follow it.

    :param obj: state of Metaflow's command line.
    :param step: name of the step.
    """
    from metaflow_orchestration.compile.reading.reader import read_graph
    from metaflow_orchestration.exceptions import InvalidOptionError

    if step not in obj.graph.nodes:
        raise InvalidOptionError(
            "there is no step %r." % step, flow=obj.flow.name, hint="Steps are: %s." % ", ".join(obj.graph.sorted_nodes)
        )
    return tuple(sorted(read_graph(obj.flow, obj.graph).with_descendants(step)))


def adapter_of(package: str, libraries: tuple[str, ...], missing: str, extra: str) -> Callable[[str], Any]:
    """Return a function that imports a module of an adapter; its libraries may be missing where a flow is run.

    :param package: name of the adapter.
    :param libraries: modules that its extra brings.
    :param missing: what to say without them.
    :param extra: name of the extra.
    """

    def adapter(module: str) -> Any:
        prepare = getattr(import_module("metaflow_adapters.%s" % package), "prepare_imports", None)
        if prepare is not None:
            prepare()
        try:
            return import_module("metaflow_adapters.%s.%s" % (package, module))
        except ModuleNotFoundError as error:
            if str(error.name).split(".")[0] not in libraries:
                raise
            raise MissingExtraError(missing, hint='pip install "airflow-provider-metaflow[%s]"' % extra) from None

    return adapter


def known_token(token_prefix: str, authorize: str | None) -> str | None:
    """Return the production token that the caller has, bare.

    :param token_prefix: what tokens of the deployment begin with.
    :param authorize: ``--authorize``.
    """
    token = (authorize or load_token(token_prefix) or "").removeprefix("production:")
    return token or None


def tell_started(obj: Any, options: dict[str, Any], name: str, target: str, run_id: str) -> None:
    """Tell of a run that was started: to the user, to a file, and to Metaflow's Deployer.

    :param obj: state of Metaflow's command line.
    :param options: values of ``STARTED``.
    :param name: name of the deployment.
    :param target: name of the orchestrator.
    :param run_id: Metaflow run id.
    """
    if options["run_id_file"]:
        Path(options["run_id_file"]).write_text(run_id, encoding="utf-8")
    write_attributes(
        options["deployer_attribute_file"],
        name=name,
        metadata=obj.metadata.metadata_str(),
        pathspec="%s/%s" % (obj.flow.name, run_id),
    )
    obj.echo("Workflow *%s* triggered on %s (run-id *%s*)." % (name, target, run_id), bold=True)
    if UI_URL:
        obj.echo("See the run in the UI at %s/%s/%s" % (UI_URL.rstrip("/"), obj.flow.name, run_id))


WATCH_SECONDS = 5.0
"""Pause between two looks at a run that is waited for."""


def watch(status_of: Callable[[], str], going_on: Collection[str], succeeded: str) -> None:
    """Print each new status of a run until it has ended, and exit with 1 if it failed: for scripts, as `run` does.

    :param status_of: returns the status, in the words of the orchestrator.
    :param going_on: statuses of a run that has not ended.
    :param succeeded: status of a run that has succeeded.
    """
    shown = None
    while True:
        status = status_of()
        if status != shown:
            print_data(status)
            shown = status
        if status not in going_on:
            break
        time.sleep(WATCH_SECONDS)
    if status != succeeded:
        sys.exit(1)


def tell_deployed(obj: Any, manifest: Manifest, token: str, group: str) -> None:
    """Tell the namespace of a deployed flow, and what starts its runs.

    :param obj: state of Metaflow's command line.
    :param manifest: the compiled flow.
    :param token: its production token.
    :param group: command group of the orchestrator.
    """
    graph = manifest.graph
    report_namespace(obj, manifest.deployment.namespace, token, group)
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


def report_namespace(obj: Any, namespace: str | None, token: str, group: str) -> None:
    """Print the namespace of a deployed flow, how to read its results, and how others may deploy it.

    :param obj: state of Metaflow's command line.
    :param namespace: ``--namespace``, in which the steps look for other results; None for that of the token.
    :param token: its production token.
    :param group: command group of the orchestrator.
    """
    token = token.removeprefix("production:")
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
