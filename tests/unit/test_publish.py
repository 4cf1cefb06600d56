"""Events that any process publishes through Airflow's API."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.airflow_api import AirflowApi, airflow_api

from airflow_provider_metaflow.events import event_asset, publish_event
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import Endpoint
from metaflow_orchestration.exceptions import InvalidOptionError

STEM = "x-metaflow-event://"


def publish(api: AirflowApi, *given: Any, **more: Any) -> str | None:
    with AirflowClient(Endpoint(url=api.url)) as client:
        return publish_event(*given, client=client, **more)


@pytest.mark.parametrize("page", [1, 100])
def test_an_event_goes_to_the_asset_of_its_very_name(page: int) -> None:
    with airflow_api() as api:
        api.page = page
        names = ["data.more", "more.data", "data"]
        api.assets = [{"id": number, "name": f"{STEM}{name}"} for number, name in enumerate(names)]
        told = publish(api, "data", {"path": "s3://x"})
        (event,) = api.asset_events
        assert event["asset_id"] == 2
        assert (event["extra"]["name"], event["extra"]["path"], event["extra"]["id"]) == ("data", "s3://x", told)
        assert event_asset("data").name == f"{STEM}data"


def test_an_event_that_no_dag_knows_is_an_error_unless_that_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    with airflow_api() as api:
        api.assets = [{"id": 1, "name": f"{STEM}data.more"}]
        assert publish(api, "data", missing_ok=True) is None
        with pytest.raises(InvalidOptionError, match="knows the event 'data'"):
            publish(api, "data")
        assert api.asset_events == []
        monkeypatch.setenv("METAFLOW_AIRFLOW_URL", api.url)
        assert publish_event("data.more") is not None
