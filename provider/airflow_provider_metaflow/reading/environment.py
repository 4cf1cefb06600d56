"""The environment of a process that talks to Metaflow on behalf of Airflow: what Metaflow needs and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping

_NAMES = frozenset(
    {
        "ALL_PROXY",
        "CURL_CA_BUNDLE",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "NO_PROXY",
        "PATH",
        "PYTHONHASHSEED",
        "PYTHONHOME",
        "PYTHONPATH",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)
_READING = ("LC_", "METAFLOW_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "GCE_METADATA_")
_STARTING = (*_READING, "KUBERNETES_", "KUBECONFIG", "ARGO_")
_CONTROL = "METAFLOW_AIRFLOW_"


def reading_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that only reads what runs have left.

    :param variables: what the connection or the deployment says; wins over this process' own.
    """
    found = _allowed(_READING)
    return {name: value for name, value in {**found, **variables}.items() if not name.startswith(_CONTROL)}


def starting_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that starts, follows and ends runs of deployed flows.

    :param variables: what the connection says; wins over this process' own.
    """
    return {**_allowed(_STARTING), **variables}


def _allowed(prefixes: tuple[str, ...]) -> dict[str, str]:
    # Airflow's own settings, its database and its keys are in none of these, however they are passed.
    return {
        name: value for name, value in os.environ.items() if name.upper() in _NAMES or name.upper().startswith(prefixes)
    }
