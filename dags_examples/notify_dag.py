"""A flow whose failures go to a Slack channel; the webhook is in the connection `slack_ml`."""

from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag(
    "flows/scheduled.py", compile_options=["--notify-on-error", "--notify-slack-conn-id", "slack_ml"]
)
