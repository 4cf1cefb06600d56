"""Hooks: how Airflow reaches Metaflow."""
