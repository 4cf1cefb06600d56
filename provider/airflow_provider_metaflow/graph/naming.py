"""Names that orchestrators accept."""

from __future__ import annotations

import hashlib
import re

from airflow_provider_metaflow.exceptions import InvalidOptionError

_VALID_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_NAME = 250
"""Length of a DAG id (``airflow.models.dag``: ID_LEN)."""


def project_name(full: str) -> str:
    """Return the name of a ``@project``'s deployment as a DAG id.

    The branch may hold the name of a user, who may be an address of mail. A hash tells changed names from others.

    >>> project_name("churn.user.ann@mail.example.TrainFlow")
    'churn.user.ann-mail.example.TrainFlow-d8e4f8'

    :param full: ``project.branch.Flow``.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", full)
    return full if plain == full else f"{plain}-{hashlib.sha256(full.encode()).hexdigest()[:6]}"


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
