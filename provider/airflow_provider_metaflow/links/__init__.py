"""Links from Airflow's pages to Metaflow's."""
