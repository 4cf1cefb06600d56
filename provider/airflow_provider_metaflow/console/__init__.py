"""``metaflow-airflow``: for those who have deployed flows, not their files."""
