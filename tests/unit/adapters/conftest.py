"""A manifest as it would be of a flow on S3, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from airflow_provider_metaflow.flow.manifest import Manifest

KUBERNETES = {
    "cpu": "1", "memory": "4096", "disk": "10240", "image": "image:1", "image_pull_policy": None,
    "image_pull_secrets": None, "service_account": None, "secrets": None, "node_selector": None, "namespace": None,
    "gpu": None, "gpu_vendor": "nvidia", "tolerations": None, "labels": None, "annotations": None, "use_tmpfs": None,
    "tmpfs_tempdir": True, "tmpfs_size": None, "tmpfs_path": "/metaflow_temp", "persistent_volume_claims": None,
    "shared_memory": None, "port": None, "qos": "Burstable", "extended_resources": None, "security_context": None,
}  # fmt: skip

BATCH = {
    "cpu": "1", "memory": "4096", "gpu": None, "image": "image:1", "queue": "arn:aws:batch:eu-west-1:123:job-queue/q",
    "iam_role": "arn:aws:iam::123:role/jobs", "execution_role": None, "shared_memory": None, "max_swap": None,
    "swappiness": None, "aws_batch_tags": None, "inferentia": None, "trainium": None, "efa": None,
    "host_volumes": None, "efs_volumes": None, "use_tmpfs": False, "tmpfs_tempdir": True, "tmpfs_size": None,
    "tmpfs_path": "/metaflow_temp", "ephemeral_storage": None, "log_driver": None, "log_options": None,
    "privileged": False,
}  # fmt: skip


@pytest.fixture
def on_s3(compiled: Callable[..., Manifest]) -> Callable[..., Manifest]:
    def make(name: str, **deployment: Any) -> Manifest:
        manifest = compiled(name)
        replace = msgspec.structs.replace
        return replace(
            manifest,
            deployment=replace(
                manifest.deployment,
                **{"name": name.replace("_", "-"), "owner": "ann", "production_token": "token-1", **deployment},
            ),
            code=replace(
                manifest.code, url="s3://bucket/metaflow/data/ab/abc", sha="abc", datastore="s3", flow_dir="/flows"
            ),
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

    return make
