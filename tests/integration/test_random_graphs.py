"""Random legal graphs agree with `python flow.py run`, artifact by artifact."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.support.airflow import SharedAirflow
from tests.support.random_flows import Block, bodies, flow_source
from tests.support.results import artifacts, run_locally

pytestmark = pytest.mark.scheduler
_numbers = itertools.count()


# Several flows an example, so that they run side by side; no shrinking, since every step of it would cost minutes.
@settings(
    max_examples=3,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(several=st.lists(bodies(), min_size=4, max_size=4))
def test_random_flows_produce_the_artifacts_of_a_local_run(
    several: list[list[Block]], airflow: SharedAirflow, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("random")
    started = []
    for body in {str(body): body for body in several}.values():
        name = f"RandomFlow{next(_numbers)}"
        path = folder / name / f"{name.lower()}.py"
        path.parent.mkdir()
        path.write_text(flow_source(name, body))
        note(path.read_text())
        airflow.create(path)
        started.append((name, path))
    runs = [(airflow.start(name, name), path) for name, path in started]
    for run, path in runs:
        local_root = Path(tmp_path_factory.mktemp("local"))
        local = run_locally(path, local_root)
        run.wait()
        assert run.artifacts() == artifacts(local_root, run.flow, local)
