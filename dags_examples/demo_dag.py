"""A flow as a DAG: this is the whole DAG file."""

from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag("flows/demo.py", tags=["example"], is_paused_upon_creation=True)
