"""Whether an object store answers at all, before anything is uploaded to it.

Metaflow's own clients try again for over ten minutes, and say nothing meanwhile. Imports Metaflow.
"""

from __future__ import annotations

import os
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException

from metaflow_orchestration.compile.url_credentials import without_credentials
from metaflow_orchestration.exceptions import FlowCompileError

_SECONDS = 8
_PAUSES = (2, 4, 8, None)
"""Pauses between the tries, in seconds: under a minute in all, also where nothing answers."""


def check_reachable(datastore: str, flow: str) -> None:
    """Check that the object store of a datastore can be reached; any answer will do.

    :param datastore: type of the datastore.
    :param flow: name of the flow, for the error.
    :raises FlowCompileError: if nothing answers.
    """
    endpoint = _endpoint(datastore)
    if not endpoint:
        return
    for pause in _PAUSES:
        problem = _problem(endpoint)
        if problem is None:
            return
        if pause is not None:
            time.sleep(pause)
    raise FlowCompileError(
        f"the object store {without_credentials(endpoint)} cannot be reached ({problem}).",
        flow=flow,
        hint="Check that it runs, your network, and the address of it in Metaflow's configuration.",
    )


def _endpoint(datastore: str) -> str | None:
    from metaflow import metaflow_config as config

    if datastore == "s3":
        if config.S3_ENDPOINT_URL:
            return str(config.S3_ENDPOINT_URL)
        from metaflow.plugins.datatools.s3.s3util import get_s3_client

        client, _ = get_s3_client()
        return str(client.meta.endpoint_url)
    if datastore == "azure":
        return str(config.AZURE_STORAGE_BLOB_SERVICE_ENDPOINT or "") or None
    if datastore == "gs":
        return os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
    return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer; where it leads to may be out of reach."""

    def redirect_request(self, *_: object) -> None:
        return None


def _problem(endpoint: str) -> str | None:
    """Return why nothing answers at an address, None if something does, be it an error."""
    request = urllib.request.Request(without_credentials(endpoint), method="HEAD")  # noqa: S310  (what Metaflow is configured with)
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        if not isinstance(error.reason, OSError) or isinstance(error.reason, (ssl.SSLError, ConnectionResetError)):
            # Something is there; whom Metaflow's client trusts is its own matter.
            return None
        return _text(error.reason)
    except TimeoutError:
        return f"no answer in {_SECONDS} s"
    except (HTTPException, OSError, ValueError):
        return None
    return None


def _text(reason: OSError) -> str:
    return f"no answer in {_SECONDS} s" if isinstance(reason, TimeoutError) else str(reason.strerror or reason)
