"""Parameters of the flow as options of a command: which were given, and in which form a run takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaflow._vendor import click

from metaflow_orchestration.graph.model import Parameter

from .verb_help import Verb


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


def given_values(obj: Any, options: Mapping[str, Any]) -> Iterator[tuple[Parameter, Any]]:
    """Return the parameters that were given, each with its value; files are uploaded.

    :param obj: state of Metaflow's command line.
    :param options: values of click, by its own names of options.
    """
    from metaflow_orchestration.compile.reading.parameters import read_parameters

    given = click.get_current_context().meta["given"]
    for parameter in read_parameters(obj.flow, with_defaults=False):
        # Click's name of the option.
        name = parameter.name.replace("-", "_").lower()
        value = options.get(name)
        if name in given and value is not None:
            yield parameter, parameter_value(obj, value)


def given_texts(obj: Any, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the parameters that were given, in the text form of Metaflow's command line.

    :param obj: state of Metaflow's command line.
    :param options: values of click, by its own names of options.
    """
    return {
        parameter.name: value if isinstance(value, str) else text_of(value)
        for parameter, value in given_values(obj, options)
    }


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


def text_of(value: Any) -> str:
    """Return a value in the text form of Metaflow's command line.

    :param value: the value of a parameter.
    """
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
