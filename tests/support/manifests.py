"""Manifests as they would be of flows that are deployed on S3."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from metaflow_orchestration.documents.manifest import Manifest

SHA = "ab" * 20
QUEUE = "arn:aws:batch:eu-west-1:123456789012:job-queue/q"

KUBERNETES: dict[str, Any] = {
    "cpu": "1", "memory": "4096", "disk": "10240", "image": "image:1", "image_pull_policy": None,
    "image_pull_secrets": None, "service_account": None, "secrets": None, "node_selector": None, "namespace": "default",
    "gpu": None, "gpu_vendor": "nvidia", "tolerations": None, "labels": None, "annotations": None, "use_tmpfs": None,
    "tmpfs_tempdir": True, "tmpfs_size": None, "tmpfs_path": "/metaflow_temp", "persistent_volume_claims": None,
    "shared_memory": None, "port": None, "qos": "Burstable", "extended_resources": None, "security_context": None,
}  # fmt: skip
"""What a bare `@kubernetes` has."""

BATCH: dict[str, Any] = {
    "cpu": "1", "memory": "4096", "gpu": None, "image": "image:1", "queue": QUEUE,
    "iam_role": "arn:aws:iam::123456789012:role/jobs", "execution_role": None, "shared_memory": None, "max_swap": None,
    "swappiness": None, "aws_batch_tags": None, "inferentia": None, "trainium": None, "efa": None,
    "host_volumes": None, "efs_volumes": None, "use_tmpfs": False, "tmpfs_tempdir": True, "tmpfs_size": None,
    "tmpfs_path": "/metaflow_temp", "ephemeral_storage": None, "log_driver": None, "log_options": None,
    "privileged": False,
}  # fmt: skip
"""What a bare `@batch` has."""


def deployed_on_s3(manifest: Manifest) -> Manifest:
    """Return the manifest of the same flow with all that containers need."""
    return replace(
        manifest,
        code=replace(manifest.code, url=f"s3://bucket/metaflow/Flow/data/ab/{SHA}", sha=SHA, datastore="s3"),
        command=replace(
            manifest.command,
            top_level=("--quiet", "--datastore=s3"),
            environment={},
            datastore_root="s3://bucket/metaflow",
        ),
        remote={
            "environment": {"METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_CODE_DS": "s3"},
            "compute_defaults": {"kubernetes": KUBERNETES, "batch": BATCH},
        },
    )
