"""The run that ``resume`` names: its steps to run again, and its parameters as they are stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from metaflow._vendor import click

from .parameters import parameter_value, text_of


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


def stored_values(obj: Any, run_id: str) -> dict[str, Any] | None:
    """Return the required parameters of a run that the orchestrator does not know; None if the datastore has none.

    All others need not be named: a resumed run takes them over from the datastore itself.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id, of whatever deployer, or of ``run``.
    """
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.resumed_run import find_parameters
    from metaflow_orchestration.compile.reading.parameters import read_parameters

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
    return {name: value if isinstance(value, str) else text_of(value) for name, value in found.items()}


def change_parameters(obj: Any, run_id: str, options: Mapping[str, Any], given: Collection[str]) -> None:
    """Store new values of parameters for a run that is resumed in place.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id.
    :param options: values of click, by its own names of options.
    :param given: names of the parameters that were given.
    :raises InvalidOptionError: if the run has no such parameters.
    """
    from metaflow.includefile import IncludedFile

    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import resumed_run
    from metaflow_orchestration.compile.reading.parameters import read_parameters
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
