"""Deployed flows as Airflow's API shows them, and waiting for one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from tests.support.airflow_api import AirflowApi, import_error

from airflow_provider_metaflow.rest import dags
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.dags import DagNotReadyError
from airflow_provider_metaflow.rest.deployment import DeployedDag, wait_for_deployment


def test_a_dag_is_told_with_its_tags_and_its_record(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag
) -> None:
    api.dags["flow.one"]["tags"] = [{"name": "z"}, {"name": "metaflow"}]
    found = dags.get_dag(client, "flow.one")
    assert found is not None
    assert (found.tags, found.file, found.is_paused) == (("metaflow", "z"), "flow.one.py", False)
    assert found.record is not None
    api.add_dag("plain", None, relative_fileloc=None)
    plain = dags.get_dag(client, "plain")
    assert plain is not None
    assert (plain.record, plain.file) == (None, "")
    assert dags.get_dag(client, "gone") is None


def test_all_pages_of_deployed_flows_are_read_and_other_dags_left_out(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag
) -> None:
    api.page = 2
    doc = api.dags["flow.one"]["doc_md"]
    for number in range(4):
        api.add_dag(f"flow.{number}", doc)
    api.add_dag("plain", "no record")
    assert [one.dag_id for one in dags.list_dags(client)] == ["flow.one", *(f"flow.{n}" for n in range(4))]


def test_deployed_flows_are_listed_by_one_request_a_page_where_the_plugin_answers(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag
) -> None:
    api.page, api.has_plugin = 2, True
    for number in range(4):
        api.add_dag(f"flow.{number}", api.dags["flow.one"]["doc_md"])
    before = len(api.requests)
    assert len(list(dags.list_dags(client))) == 5
    asked = [path for _, path, _ in api.requests[before:] if path != "/auth/token"]
    assert asked == ["/metaflow/deployments"] * 3
    # One that is out of order is not waited for.
    api.refuse["GET", "/deployments"] = [500]
    assert len(list(dags.list_dags(client))) == 5


def test_all_pages_of_import_errors_are_read(api: AirflowApi, client: AirflowClient) -> None:
    api.page = 1
    api.import_errors = [import_error("a.py", "A"), import_error("b.py", "B")]
    assert dags.import_errors(client) == {"a.py": "A", "b.py": "B"}


def test_a_dag_that_is_there_is_not_waited_for(api: AirflowApi, client: AirflowClient, deployed: DeployedDag) -> None:
    assert dags.wait_for_dag(client, "flow.one", timeout=0).dag_id == "flow.one"
    assert "/importErrors" not in api.paths("GET")


def test_an_import_error_ends_the_waiting_with_its_last_line(api: AirflowApi, client: AirflowClient) -> None:
    api.import_errors = [
        import_error("sub/x.py", "Traceback\n\nValueError: bad\n", datetime.now(timezone.utc) + timedelta(seconds=30)),
        import_error("y.py", "of another"),
    ]
    with pytest.raises(DagNotReadyError, match="Airflow cannot import the DAG x: ValueError: bad"):
        dags.wait_for_dag(client, "x", timeout=30)


def test_an_import_error_of_the_file_before_counts_only_when_time_is_up(api: AirflowApi, client: AirflowClient) -> None:
    api.import_errors = [import_error("x.py", "Old: error", datetime.now(timezone.utc) - timedelta(hours=1))]

    def parse(_: str, path: str) -> None:
        if path.endswith("/importErrors"):
            api.add_dag("x")

    api.on_request = parse
    assert dags.wait_for_dag(client, "x", timeout=20).dag_id == "x"
    api.on_request = lambda *_: None
    del api.dags["x"]
    with pytest.raises(DagNotReadyError, match="Airflow cannot import the DAG x: Old: error"):
        dags.wait_for_dag(client, "x", timeout=0)


@pytest.mark.parametrize("is_stale", [True, False])
def test_what_does_not_come_in_time_is_told(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag, is_stale: bool
) -> None:
    api.dags["flow.one"]["is_stale"] = is_stale
    what = "the DAG" if is_stale else "this deployment of the DAG"
    with pytest.raises(DagNotReadyError, match=rf"has not parsed {what} flow.one within 0 s"):
        dags.wait_for_dag(client, "flow.one", digest="another", timeout=0)


def test_a_dag_whose_file_is_gone_is_waited_for(api: AirflowApi, client: AirflowClient, deployed: DeployedDag) -> None:
    api.dags["flow.one"]["is_stale"] = True
    with pytest.raises(DagNotReadyError, match=r"has not parsed the DAG flow.one within 0 s"):
        dags.wait_for_dag(client, "flow.one", timeout=0)


def test_nobody_waits_for_a_deleted_deployment(api: AirflowApi, client: AirflowClient, deployed: DeployedDag) -> None:
    api.dags["flow.one"]["is_stale"] = True
    with pytest.raises(DagNotReadyError, match=r"the deployment flow.one was deleted"):
        wait_for_deployment(client, "flow.one", "GroupedFlow", digest=None, timeout=20)
    api.import_errors = [import_error("flow.one.py", "Trace\nValueError: broken")]
    with pytest.raises(DagNotReadyError, match=r"cannot import the DAG flow.one: ValueError: broken"):
        wait_for_deployment(client, "flow.one", "GroupedFlow", digest=None, timeout=20)
