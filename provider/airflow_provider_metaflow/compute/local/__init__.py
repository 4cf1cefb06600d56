"""Steps as processes of the Airflow worker."""
