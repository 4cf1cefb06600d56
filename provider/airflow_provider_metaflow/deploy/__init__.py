"""What ``airflow create`` writes, and what it records about a deployment."""
