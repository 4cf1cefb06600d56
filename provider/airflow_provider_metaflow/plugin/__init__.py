"""The page that this provider adds to Airflow's web interface."""
