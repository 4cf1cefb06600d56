"""An Airflow of one's own: real scheduler, DAG processor and API server, started and stopped by us."""
