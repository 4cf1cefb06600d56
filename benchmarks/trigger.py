"""From the command line to the first task running: `flow.py airflow trigger` against `airflow dags trigger`.

    python benchmarks/trigger.py [--rounds 7]

Both start runs of the same DAG on the same Airflow (PostgreSQL, LocalExecutor); measured is the time from the start of the
command to the start of the run's first task. The two sides alternate; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.airflow import SharedAirflow, shared_airflow  # noqa: E402

from airflow_provider_metaflow.rest import dags, runs  # noqa: E402

FLOW = ROOT / "tests" / "flows" / "single_step.py"
DAG = "SingleStepFlow"


def first_start(airflow: SharedAirflow, before: set[str]) -> float:
    """Wait for the run that is not among those before; return when its first task started, seconds since 1970."""
    client = airflow.server.client
    while True:
        for run in runs.list_runs(client, DAG):
            if run.dag_run_id in before:
                continue
            page = client.request("GET", f"/dags/{DAG}/dagRuns/{run.dag_run_id}/taskInstances")
            for one in page["task_instances"]:
                if one["start_date"]:
                    runs.wait_for_run(client, DAG, run.dag_run_id)
                    return datetime.fromisoformat(one["start_date"].replace("Z", "+00:00")).timestamp()
        time.sleep(0.05)


def measure(airflow: SharedAirflow, command: list[str], environment: dict[str, str]) -> float:
    before = {run.dag_run_id for run in runs.list_runs(airflow.server.client, DAG)}
    began = time.time()
    process = subprocess.Popen(
        command, cwd=FLOW.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    at = first_start(airflow, before)
    assert process.wait() == 0
    return at - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("METAFLOW_USER", "bench")
    home = Path(tempfile.mkdtemp(prefix="bench-trigger-"))
    with shared_airflow(home / "airflow") as airflow:
        airflow.create(FLOW, "--no-is-paused-upon-creation")
        dags.wait_for_dag(airflow.server.client, DAG)
        environment = {**airflow.server.environment(), "METAFLOW_AIRFLOW_URL": airflow.server.url}
        sides = {
            "ours": [sys.executable, FLOW.name, "--no-pylint", "airflow", "trigger"],
            "stock": [sys.executable, "-m", "airflow", "dags", "trigger", DAG],
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(rounds + 1):
            for side, command in sides.items():
                seconds = measure(airflow, command, environment)
                if number:  # the first round warms up
                    times[side].append(seconds)
    medians = {side: round(statistics.median(found), 3) for side, found in times.items()}
    report = {"seconds": medians, "ratio": round(medians["ours"] / medians["stock"], 3)}
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("trigger.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
