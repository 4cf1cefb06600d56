"""Compiled flows as they stand in `tests/golden`, the same on every machine, so that tests need compile none.

`tests/unit/compile/test_recorded.py` compares each with what its flow file really compiles to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from metaflow_orchestration.documents.manifest import CodePackage, Command, Deployment, Manifest
from metaflow_orchestration.graph.model import FlowGraph

GOLDEN = Path(__file__).parents[1] / "golden"

SHAPES = (
    "linear", "single_step", "custom_names", "static_split", "foreach", "nested_foreach", "split_in_foreach",
    "foreach_in_split", "switch", "switch_in_foreach", "switch_in_split", "recursion", "parallel",
)  # fmt: skip
"""Plain flows, one graph shape each."""

NOTIFIED = (
    "--notify-on-error", "--notify-on-success", "--notify-slack-conn-id", "slack-of-team",
    "--notify-incident-io-conn-id", "incidents", "--incident-io-alert-source-config-id", "source-1",
    "--incident-io-metadata", "team=ml",
)  # fmt: skip

DECORATED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "decorated/careful": ((), ("--tag", "nightly", "--tag", "team:ml", "--max-workers", "7")),
    "decorated/nightly": (("--production",), ("--tag", "nightly", "--workflow-timeout", "3600", *NOTIFIED)),
    "decorated/triggered": (("--branch", "testing"), ()),
    "decorated/on_finish": (("--branch", "testing"), ("--no-auto-emit-events",)),
    "decorated/pods": ((), ()),
    "decorated/jobs": ((), ()),
}
"""Flows with decorators: their options before the subcommand, and those of `airflow create`."""

ENVIRONMENT = {
    "METAFLOW_KUBERNETES_CONTAINER_IMAGE": "image:1",
    "METAFLOW_BATCH_CONTAINER_IMAGE": "image:1",
    "METAFLOW_BATCH_JOB_QUEUE": "arn:aws:batch:eu-west-1:123:job-queue/q",
    "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": "arn:aws:iam::123:role/jobs",
}
"""What decorated flows are compiled with, so that a bare `@kubernetes` or `@batch` is the same everywhere."""

CODE = CodePackage(
    url="s3://bucket/metaflow/data/ab/abc",
    sha="abc",
    metadata='{"version": 0, "archive_format": "tgz", "mfcontent_version": 1}',
    datastore="s3",
    flow_file="flow.py",
    flow_dir="/flows",
)
ROOT = "s3://bucket/metaflow"
TOKEN = {"production_token": "token-1", "token_proof": ""}

KUBERNETES = {
    "cpu": "1", "memory": "4096", "disk": "10240", "image": "image:1", "image_pull_policy": None,
    "image_pull_secrets": None, "service_account": None, "secrets": None, "node_selector": None, "namespace": "default",
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


def on_s3(manifest: Manifest, flow: str, /, **deployment: Any) -> Manifest:
    """A manifest as it would be of a flow on S3, the same on every machine.

    :param flow: the flow's file below `tests/flows`, without its ending.
    :param deployment: fields of the deployment that are to differ.
    """
    replace = msgspec.structs.replace
    file = Path(flow).name
    return replace(
        manifest,
        deployment=replace(
            manifest.deployment,
            **{"name": file.replace("_", "-"), "owner": "ann", **TOKEN, **deployment},
        ),
        code=replace(CODE, flow_file=f"{file}.py"),
        command=replace(
            manifest.command, top_level=_top_level(manifest.command.top_level), environment={}, datastore_root=ROOT
        ),
        inputs=(),
        remote={
            **manifest.remote,
            "environment": {"METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_CODE_DS": "s3"},
            "compute_defaults": {"kubernetes": KUBERNETES, "batch": BATCH},
        },
    )


def _top_level(options: tuple[str, ...]) -> tuple[str, ...]:
    """Keep those of flow decorators, which come first."""
    own = options[: options.index("--quiet")] if "--quiet" in options else ()
    return (*own, "--quiet", "--datastore=s3")


def read_recorded(name: str) -> Manifest | None:
    """The compiled form of a flow as it was recorded, None if it was not."""
    folder = GOLDEN / name
    if (folder / "manifest.json").exists():
        return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    if not (folder / "graph.json").exists():
        return None
    graph = msgspec.json.decode((folder / "graph.json").read_bytes(), type=FlowGraph)
    return on_s3(
        Manifest(
            graph=graph,
            deployment=Deployment(name=graph.name, owner="ann", production_token="token-1", max_workers=100),
            code=CODE,
            command=Command(top_level=(), environment={}, datastore_root=ROOT, metadata="local"),
        ),
        name,
    )


def record(name: str, manifest: Manifest) -> None:
    """Write the compiled form of a decorated flow."""
    file = GOLDEN / name / "manifest.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
