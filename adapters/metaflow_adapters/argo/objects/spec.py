"""What the emitters build: the words of Hera's classes as a light tree, for which Hera need not be imported.

A tree becomes either live Hera objects (:func:`live`), which users change and embed, or the plain data of Kubernetes'
API (:func:`plain`), for which the command line need not wait for Hera's models, most of a second of imports. Both say
the same; the tests compare them for each shape of flow.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

_MODELS = "models."

Fields = dict[str, Any]
"""Keyword arguments of a class of Hera, by name (https://hera.readthedocs.io/en/stable/api/workflows/hera/)."""


class Spec:
    """One object of Hera to be: the name of its class, and its arguments as attributes that can be changed.

    :param kind: name of a class of ``hera.workflows``; after ``models.`` one of ``hera.workflows.models``.
    :param fields: its keyword arguments.
    """

    __slots__ = ("fields", "kind")

    kind: str
    fields: Fields

    def __init__(self, kind: str, /, **fields: Any) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "fields", fields)

    def __getattr__(self, name: str) -> Any:
        return self.fields.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.fields[name] = value


class Raw(Spec):
    """A model of Hera that is given as the plain data of Kubernetes' API."""

    def __init__(self, kind: str, data: Mapping[str, Any]) -> None:
        super().__init__(_MODELS + kind, data=dict(data))


def _maker(kind: str) -> Callable[..., Spec]:
    return partial(Spec, kind)


Container, DAG, Parameter, Resource, RetryStrategy, Step, Steps, Suspend, Task = map(
    _maker, ("Container", "DAG", "Parameter", "Resource", "RetryStrategy", "Step", "Steps", "Suspend", "Task")
)
CronWorkflow, WorkflowTemplate = map(_maker, ("CronWorkflow", "WorkflowTemplate"))


def model(kind: str, **fields: Any) -> Spec:
    """Return a model of ``hera.workflows.models`` to be.

    :param kind: name of its class.
    :param fields: its keyword arguments.
    """
    return Spec(_MODELS + kind, **fields)


def raw(kind: str, data: Mapping[str, Any] | None) -> Raw | None:
    """Return a model that is given as plain data, None if that is empty.

    :param kind: name of its class in ``hera.workflows.models``.
    :param data: the words of Kubernetes' API.
    """
    return Raw(kind, data) if data else None


def live(value: Any) -> Any:
    """Return Hera's objects for a tree.

    :param value: a :class:`Spec`, or lists, tuples and plain data with some in them.
    """
    # Hera adds whatever is made to a workflow that is open: not our tasks, please.
    return contextvars.Context().run(_live, value)


def _live(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_live(one) for one in value)
    if not isinstance(value, Spec):
        return value
    from metaflow_adapters.argo import prepare_imports

    prepare_imports()
    import hera.workflows
    import hera.workflows.models

    if value.kind.startswith(_MODELS):
        kind = getattr(hera.workflows.models, value.kind.removeprefix(_MODELS))
        if isinstance(value, Raw):
            return _validated(kind, value.fields["data"])
    else:
        kind = getattr(hera.workflows, value.kind)
    return kind(**{name: _live(one) for name, one in value.fields.items()})


def _validated(kind: Any, data: Mapping[str, Any]) -> Any:
    if kind.__name__ != "Container" or "image" in data:
        return kind.model_validate(data)
    # What all steps share, but for the image; not every release of Hera takes a container without one.
    made = kind.model_validate({"image": "-", **data})
    made.image = None
    return made
