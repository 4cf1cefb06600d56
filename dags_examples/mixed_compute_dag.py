"""One flow on the worker, in AWS Batch and on Kubernetes; what the flow leaves open is said here."""

from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag(
    "flows/mixed.py",
    # Pods and jobs reach no local folder.
    options=["--datastore=s3"],
    kubernetes={
        "namespace": "ml",
        "deferrable": True,
        "pod_override": {"spec": {"priorityClassName": "batch", "containers": [{"name": "base"}]}},
    },
    batch={"aws_conn_id": "aws_ml", "queue": "ml-spot", "array_jobs": True},
    step_overrides={"evaluate": {"kubernetes": {"memory": "4096"}, "pool": "ml"}},
)
