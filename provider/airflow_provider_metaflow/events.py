"""Events: publish them from any process, and name them as Airflow assets in a DAG.

An event is an Airflow asset ``x-metaflow-event://NAME``; what is published is an asset event whose ``extra`` is the
payload. A flow with ``@trigger(event="NAME")`` is a DAG that is scheduled on the asset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow.plan.events import ASSET_GROUP, asset_name, make_payload
from metaflow_orchestration.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from airflow_provider_metaflow.rest.client import AirflowClient

_PAGE = 100


def event_asset(event: str) -> Asset:
    """Return the asset of an event, e.g. as an outlet of a task that publishes it, or for an ``AssetWatcher``.

    ```python
    from airflow.sdk import task
    from airflow_provider_metaflow.events import event_asset


    @task(outlets=[event_asset("data-ready")])
    def extract(): ...
    ```

    New in version 0.1.0.

    :param event: name of the event.
    """
    from airflow.sdk import Asset

    return Asset(asset_name(event), group=ASSET_GROUP)


def publish_event(
    event: str,
    payload: Mapping[str, Any] | None = None,
    *,
    client: AirflowClient | None = None,
    missing_ok: bool = False,
) -> str | None:
    """Publish an event through Airflow's REST API and return its id.

    ```python
    from airflow_provider_metaflow.events import publish_event

    publish_event("data-ready", {"day": "2026-01-31"})
    ```

    New in version 0.1.0.

    :param event: name of the event.
    :param payload: its fields, as JSON types; ``@trigger`` can map them to parameters.
    :param client: the Airflow; default: the one that ``METAFLOW_AIRFLOW_URL`` and its kin name.
    :param missing_ok: whether it is fine that no DAG of this Airflow knows the event; then None is returned.
    :raises InvalidOptionError: if no DAG knows it.
    :raises AirflowApiError: if Airflow refuses it or cannot be reached.
    """
    if client is None:
        from airflow_provider_metaflow.rest.client import AirflowClient
        from airflow_provider_metaflow.rest.endpoint import configured_endpoint
        from metaflow_orchestration.compile.configuration import metaflow_value

        with AirflowClient(configured_endpoint(metaflow_value)) as own:
            return publish_event(event, payload, client=own, missing_ok=missing_ok)
    asset = _asset_id(client, event)
    if asset is None:
        if missing_ok:
            return None
        raise InvalidOptionError(
            f"no DAG of {client.endpoint.url} knows the event {event!r}.",
            hint="Deploy a flow with @trigger(event=…) of that name first, or give missing_ok=True.",
        )
    extra = make_payload(event, payload)
    client.request("POST", "/assets/events", json={"asset_id": asset, "extra": extra})
    return str(extra["id"])


def _asset_id(client: AirflowClient, event: str) -> int | None:
    name = asset_name(event)
    offset = 0
    while True:
        params = {"name_pattern": name, "limit": _PAGE, "offset": offset}
        page = client.request("GET", "/assets", params=params)
        for one in page["assets"]:
            if one["name"] == name:
                return int(one["id"])
        offset += len(page["assets"])
        if not page["assets"] or offset >= page["total_entries"]:
            return None
