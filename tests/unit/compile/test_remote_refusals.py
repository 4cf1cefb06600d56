"""What Metaflow refuses of remote compute when a flow is compiled, as a user of ``create`` sees it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.interpreter import python

pytestmark = pytest.mark.subprocess

FLOW = """
from metaflow import FlowSpec, batch, kubernetes, step, timeout

class RefusedFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.work)

{decorators}
    @step
    def work(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    RefusedFlow()
"""


TOO_SHORT = "timeout for step work should be at least 60 seconds"


@pytest.mark.parametrize(
    ("decorators", "datastore", "message"),
    [
        (["kubernetes"], "local", "@kubernetes decorator requires --datastore=s3"),
        pytest.param(["batch"], "local", "@batch decorator requires --datastore=s3", marks=pytest.mark.extended),
        (["kubernetes", "batch"], "s3", "Step work is marked for execution both on AWS Batch and Kubernetes"),
        (["kubernetes(colour='red')"], "s3", "'kubernetes' does not support the attribute 'colour'"),
        pytest.param(["timeout(seconds=5)", "kubernetes"], "s3", TOO_SHORT, marks=pytest.mark.extended),
        pytest.param(["timeout(seconds=5)", "batch"], "s3", TOO_SHORT, marks=pytest.mark.extended),
    ],
)
def test_remote_compute_that_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, decorators: list[str], datastore: str, message: str
) -> None:
    flow = tmp_path / "refused.py"
    flow.write_text(FLOW.format(decorators="\n".join(f"    @{one}" for one in decorators)))
    environment = {
        **os.environ,
        "METAFLOW_USER": "alice",
        "METAFLOW_HOME": str(tmp_path),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://bucket/metaflow",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    command = [python(), flow.name, "--no-pylint", f"--datastore={datastore}", "airflow", "create", "dag.py"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert not (tmp_path / "dag.py").exists()
