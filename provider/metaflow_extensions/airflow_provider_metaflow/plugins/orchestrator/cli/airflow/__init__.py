"""``python flow.py airflow …``: deploys a flow to Airflow 3. Loaded only when the group is used."""
