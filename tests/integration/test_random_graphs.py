"""Random legal graphs agree with `python flow.py run` on all three orchestrators, artifact by artifact."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.argo import Argo, Workflow
from tests.support.random_flows import Block, bodies, flow_source
from tests.support.results import Results, local_artifacts
from tests.support.step_functions import Execution, StepFunctions

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.extended]
_numbers = itertools.count()

Run = FlowRun | Workflow | Execution


# Several flows an example, so that they run side by side; no shrinking, since every step of it would cost minutes.
@settings(
    max_examples=2,  # the first is the simplest there is
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(several=st.lists(bodies(), min_size=2, max_size=2))
def test_random_flows_produce_the_artifacts_of_a_local_run(
    several: list[list[Block]],
    airflow: SharedAirflow,
    argo: Argo,
    step_functions: StepFunctions,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("random")
    started: list[tuple[str, Path, dict[str, Run]]] = []
    for body in {str(body): body for body in several}.values():
        flow = f"RandomFlow{next(_numbers)}"
        path = folder / flow / f"{flow.lower()}.py"
        path.parent.mkdir()
        path.write_text(flow_source(flow, body))
        note(path.read_text())
        runs = {
            "Airflow": on_airflow(airflow, path, flow),
            "Argo": on_argo(argo, path, flow),
            "Step Functions": on_step_functions(step_functions, path, flow),
        }
        started.append((flow, path, runs))
    for flow, path, runs in started:
        expected = local_artifacts(path, flow)
        assert {target: finished(run) for target, run in runs.items()} == dict.fromkeys(runs, expected)


def on_airflow(airflow: SharedAirflow, path: Path, flow: str) -> Run:
    airflow.create(path)
    return airflow.start(flow, flow)


def on_argo(argo: Argo, path: Path, flow: str) -> Run:
    argo.create(path, name=flow.lower())
    return argo.start(flow.lower(), flow)


def on_step_functions(aws: StepFunctions, path: Path, flow: str) -> Run:
    aws.create(path, name=flow)
    return aws.start(flow, flow)


def finished(run: Run) -> Results:
    run.wait(timeout=900)
    return run.artifacts()
