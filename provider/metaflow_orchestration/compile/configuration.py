"""Metaflow's configuration: environment variables and the profile's file. Imports Metaflow when asked."""

from __future__ import annotations


def metaflow_value(name: str) -> str | None:
    """Return a value of Metaflow's configuration, None if it is not set.

    :param name: its name without ``METAFLOW_``.
    """
    from metaflow.metaflow_config_funcs import from_conf

    value = from_conf(name)
    return None if value is None else str(value)
