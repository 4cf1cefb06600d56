"""The flow graph: plain typed data and pure functions, free of Airflow, Hera, boto3 and Metaflow."""
