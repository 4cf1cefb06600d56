"""Where steps run: here, processes of the Airflow worker."""
