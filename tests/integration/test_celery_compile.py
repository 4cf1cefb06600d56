"""A flow file on Celery workers of two hosts is compiled once; all XComs and logs are in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.celery import CeleryAirflow, celery_airflow, deploy
from tests.support.object_store import BUCKET, ObjectStore

from metaflow_orchestration.documents.manifest import decode_manifest

MADE_FLOW = """import uuid

from metaflow import FlowSpec, Parameter, step


class MadeFlow(FlowSpec):
    made = Parameter("made", default=lambda context: uuid.uuid4().hex)

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        self.found = self.made


if __name__ == "__main__":
    MadeFlow()
"""

pytestmark = [pytest.mark.scheduler, pytest.mark.extended]


@pytest.fixture(scope="module")
def celery(store: ObjectStore) -> Iterator[CeleryAirflow]:
    settings = {
        "CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
        "COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"s3://logs@{BUCKET}/xcom",
        # Whatever their size.
        "COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
    }
    with celery_airflow(store, **settings) as started:
        yield started


def test_hosts_take_the_form_of_a_flow_file_that_the_dag_processor_has_compiled(
    celery: CeleryAirflow, tmp_path: Path
) -> None:
    flow = tmp_path / "made.py"
    flow.write_text(MADE_FLOW)
    deploy(celery, flow)
    run = celery.airflow.start("MadeFlow", "MadeFlow")
    run.wait()
    assert set(celery.places(run).values()) == {("one", "one"), ("two", "two")}
    # Each compile makes another default.
    folders = (celery.airflow.server.home / "metaflow", *(one.cache for one in celery.workers.values()))
    files = {folder: list(folder.glob("manifests/made-*.metaflow.json")) for folder in folders}
    assert [len(found) for found in files.values()] == [1, 1, 1]
    graphs = [decode_manifest(file.read_bytes(), str(file)).graph for (file,) in files.values()]
    assert graphs[1:] == graphs[:1] * 2
    (parameter,) = graphs[0].parameters
    assert celery.artifacts(run)["end"][((), ())]["found"] == parameter.default
