"""The DAG of the quickstart."""

from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag("flows/training.py", is_paused_upon_creation=False)
