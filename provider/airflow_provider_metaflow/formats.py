"""Formats of Airflow's that are handed on as they are: what stands in them is decided by others. Imports nothing."""

from __future__ import annotations

from typing import Any

Arguments = dict[str, Any]
"""Keyword arguments of a class of Airflow's or of a provider's, whose signature says what they are."""

SerializedTrigger = tuple[str, dict[str, Any]]
"""Class path and keyword arguments of a trigger, in JSON types (``airflow.triggers.base.BaseTrigger.serialize``)."""

TriggerEventData = dict[str, Any]
"""What a trigger has seen, in JSON types: an answer of ``reading/documents.py``, or what a provider's trigger tells."""

ParamValues = dict[str, Any]
"""Values of a DAG's params by name, in JSON types: the ``conf`` of a DAG run, or defaults. In a ``conf``, what a run
resumes stands beside them (``RESUME_KEY``)."""
