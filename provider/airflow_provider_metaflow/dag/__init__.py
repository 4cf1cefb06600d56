"""From a manifest to an Airflow DAG: plan (policy, free of Airflow), then emit."""
