"""What the tab *Metaflow* of a DAG run adds to Airflow's own page: the time of its request beside that of Airflow's.

    python benchmarks/page.py [--rounds 7]

The run has a foreach and is on a real Airflow (PostgreSQL, LocalExecutor). Airflow's own page asks for the run, its DAG
and its task instances; the tab asks for one document more. The two sides alternate, and no answer comes from the short
cache of the tab. Beside the median stands the first opening after the start of the API server.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.airflow import shared_airflow  # noqa: E402
from tests.support.api_server import api_server  # noqa: E402

FLOW, DAG = ROOT / "tests" / "flows" / "foreach.py", "ForeachFlow"
CACHE_SECONDS = 5.0
"""As in ``plugin/app.py``."""


def timed(client: httpx.Client, paths: list[str]) -> float:
    """Return how long some requests take, one after the other, in seconds."""
    start = time.perf_counter()
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("METAFLOW_USER", "bench")
    home = Path(tempfile.mkdtemp(prefix="bench-page-"))
    with shared_airflow(home) as airflow:
        airflow.create(FLOW, "--no-is-paused-upon-creation")
        run = airflow.start(DAG, DAG)
        run.wait()
        name = quote(run.dag_run_id, safe="")
        own = [f"/api/v2/dags/{DAG}", f"/api/v2/dags/{DAG}/dagRuns/{name}"]
        own.append(f"/api/v2/dags/{DAG}/dagRuns/{name}/taskInstances")
        tab = [f"/metaflow/dags/{DAG}/runs/{name}"]
        with (
            api_server(airflow, home / "api.log", {"CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}) as url,
            httpx.Client(base_url=url, timeout=60) as client,
        ):
            first = {"airflow": timed(client, own), "tab": timed(client, tab)}
            assert f"{DAG}/{run.run_id}" in client.get(tab[0]).text
            times: dict[str, list[float]] = {"airflow": [], "tab": []}
            for _ in range(rounds):
                time.sleep(CACHE_SECONDS + 0.1)
                times["airflow"].append(timed(client, own))
                times["tab"].append(timed(client, tab))
    medians = {side: round(statistics.median(found), 4) for side, found in times.items()}
    report = {
        "command": "python benchmarks/page.py",
        "seconds": medians,
        "first_opening_seconds": {side: round(found, 4) for side, found in first.items()},
        "ratio": round(medians["tab"] / medians["airflow"], 3),
    }
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("page.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
