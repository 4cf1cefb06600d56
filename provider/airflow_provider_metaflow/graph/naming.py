"""Names that orchestrators accept."""

from __future__ import annotations

import re

from airflow_provider_metaflow.exceptions import InvalidOptionError

_VALID_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_NAME = 250
"""Length of a DAG id (``airflow.models.dag``: ID_LEN)."""


def check_name(name: str, flow_name: str) -> None:
    """Check that a name can be a DAG id.

    :param name: the name.
    :param flow_name: flow to name in the error.
    :raises InvalidOptionError: if it holds other than ASCII letters, digits, ``_ . -`` or is over 250 long.
    """
    if not _VALID_NAME.fullmatch(name):
        raise InvalidOptionError(
            f"{name!r} cannot be a DAG id.",
            flow=flow_name,
            hint="Use letters, digits, dashes, dots and underscores only.",
        )
    if len(name) > _MAX_NAME:
        raise InvalidOptionError(
            f"the DAG id {name[:40]}… has {len(name)} characters; Airflow allows {_MAX_NAME}.",
            flow=flow_name,
            hint="Choose a shorter --name or branch.",
        )
