"""Templates of parameters, rendered when a run starts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import pendulum
from jinja2 import TemplateError, UndefinedError

from metaflow_orchestration.exceptions import ParameterValueError

from .run_context import DagRunContext

if TYPE_CHECKING:
    from airflow.sdk import Context

    from metaflow_orchestration.graph.model import FlowGraph


def render_parameters(
    graph: FlowGraph,
    templates: Mapping[str, Any],
    context: Context,
    render: Callable[[Any, dict[str, Any]], Any],
    *,
    fill: bool,
) -> dict[str, Any]:
    """Return the rendered values of parameters. A run without a logical date is taken for one of its ``run_after``.

    :param graph: the flow.
    :param templates: values by parameter name, which may be or hold templates.
    :param context: Airflow's task context.
    :param render: renders a value in a context.
    :param fill: whether values that the run was started with win; templates for these are not rendered, and left out.
    :raises ParameterValueError: if a template cannot be rendered.
    """
    given: Collection[str] = DagRunContext(graph, context).given_values() if fill else ()
    dates = dates_of(context["dag_run"])
    dated = {**dates, **context}
    rendered = {}
    for name, value in templates.items():
        if name in given:
            continue
        try:
            rendered[name] = render(value, dated)
        except TemplateError as error:
            raise _unrendered(graph, name, value, error, dates) from None
    return rendered


def dates_of(dag_run: Any) -> dict[str, Any]:
    """Return the template variables that Airflow leaves out of ``get_template_context`` without a logical date.

    :param dag_run: the DAG run in Airflow's task context.
    """
    moment = pendulum.instance(dag_run.run_after)
    text = moment.isoformat()
    return {
        "data_interval_end": moment,
        "data_interval_start": moment,
        "ds": moment.strftime("%Y-%m-%d"),
        "ds_nodash": moment.strftime("%Y%m%d"),
        "logical_date": moment,
        "ts": text,
        "ts_nodash": moment.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": text.replace("-", "").replace(":", ""),
    }


def _unrendered(
    graph: FlowGraph, name: str, template: Any, error: TemplateError, dates: Collection[str]
) -> ParameterValueError:
    hint = "Correct the template, or start the run with a value for the parameter."
    if isinstance(error, UndefinedError):
        hint = (
            "Use a name of Airflow's template context that this run has, or start the run with a value for the "
            "parameter; of a run without a logical date these dates are known, from run_after: "
            f"{', '.join(dates)}."
        )
    return ParameterValueError(
        f"the template {template!r} for parameter {name!r} cannot be rendered: {error}.", flow=graph.name, hint=hint
    )
