"""One DAG per flow file of a folder."""

from airflow_provider_metaflow import load_flow_dags

load_flow_dags(globals(), "flows/", max_active_runs=1)
