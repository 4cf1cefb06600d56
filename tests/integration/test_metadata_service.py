"""The hook against a metadata service (a double of it), with the settings of its connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.environment import environment_variable
from tests.support.metadata_service import metadata_service
from tests.support.results import run_locally

from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from metaflow_orchestration.exceptions import MetaflowQueryError


def test_runs_and_artifacts_are_found_by_the_service_of_the_connection(flows: Path, tmp_path: Path) -> None:
    with metadata_service("s3cret") as service:
        with (
            environment_variable("METAFLOW_SERVICE_URL", service.url),
            environment_variable("METAFLOW_SERVICE_AUTH_KEY", "s3cret"),
        ):
            top = ("--metadata", "service")
            run_id = run_locally(flows / "linear.py", tmp_path, "--with", "orchestrator_internal", top=top)
        connection = {
            "conn_type": "metaflow",
            "host": service.url,
            "password": "s3cret",
            "extra": {"datastore_root": str(tmp_path / ".metaflow"), "headers": '{"x-more": "1"}'},
        }
        with environment_variable("AIRFLOW_CONN_SERVICE", json.dumps(connection)):
            hook = MetaflowHook("service")
            assert hook.test_connection() == (True, f"Metaflow can be reached: metadata service 2.5.0 at {service.url}")
            run = hook.ask("run", pathspec=f"LinearFlow/{run_id}")
            assert (run["finished"], run["successful"]) == (True, True)
            answer = hook.ask("artifact", pathspec=f"LinearFlow/{run_id}", name="trace", max_bytes=1000)
            assert answer["value"] == ["start", "middle", "end"]
            assert not hook.ask("run", pathspec="LinearFlow/none")["exists"]
            assert not hook.ask("artifact", pathspec=f"LinearFlow/{run_id}/end", name="no", max_bytes=9)["exists"]
            with pytest.raises(MetaflowQueryError, match="bytes large; the limit is 9"):
                hook.ask("artifact", pathspec=f"LinearFlow/{run_id}", name="trace", max_bytes=9)
        wrong = json.dumps({**connection, "password": "wrong"})
        with environment_variable("AIRFLOW_CONN_SERVICE", wrong):
            good, message = MetaflowHook("service").test_connection()
            assert not good
            assert "wrong" not in message
