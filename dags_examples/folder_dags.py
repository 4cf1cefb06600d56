"""One DAG per flow file of a folder."""

from airflow_provider_metaflow import load_flows

load_flows(globals(), "flows/", max_active_runs=1)
