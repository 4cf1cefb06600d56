"""Publish an event from any process: METAFLOW_AIRFLOW_URL names the Airflow."""

from airflow_provider_metaflow.events import publish_event

if __name__ == "__main__":
    print(publish_event("orders.new", {"id": 8}))
