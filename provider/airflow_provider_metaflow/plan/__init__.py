"""The plan of the Airflow DAG of a flow: every decision, and no import of Airflow."""
