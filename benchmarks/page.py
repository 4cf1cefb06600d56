"""What the tab *Metaflow* of a DAG run adds to Airflow's own page: the time of its request beside that of Airflow's.

    python benchmarks/page.py [--rounds 7]

The run has a foreach and is on a real Airflow (PostgreSQL, LocalExecutor). Airflow's own page asks for the run, its DAG
and its task instances; the tab asks for one document more. The two sides alternate, and no answer comes from the short
cache of the tab. Beside the median stands the first opening after the start of the API server, with a local datastore,
with S3 (moto's server), and with S3 when the reading process is not started with the API server. The load of the
machine by others stands beside, since both sides share its cores with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_DEFAULT_REGION="us-east-1")

from tests.support.airflow import FlowRun, shared_airflow  # noqa: E402
from tests.support.api_server import api_server  # noqa: E402
from tests.support.environment import environment_variable  # noqa: E402
from tests.support.object_store import object_store  # noqa: E402
from tests.support.patience import wait_until  # noqa: E402

FLOW, NAME = ROOT / "tests" / "flows" / "foreach.py", "ForeachFlow"
CACHE_SECONDS = 5.0
"""As in ``plugin/app.py``."""
LIMIT_SECONDS = 0.5
ADMINS = {"CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}


def timed(client: httpx.Client, paths: list[str]) -> float:
    """Return how long some requests take, one after the other, in seconds."""
    start = time.perf_counter()
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
    return time.perf_counter() - start


def readers(root: str) -> list[float]:
    """Return the memory of the reading processes that have been started below a process of this one, in MB."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"reading/process.py" in (folder / "cmdline").read_bytes() and root in (folder / "environ").read_text():
                lines = (folder / "status").read_text().splitlines()
                found.append(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024)
        except OSError:
            continue
    return found


def measure(
    run: FlowRun, log: Path, settings: Mapping[str, str], rounds: int, root: str, *, ready: bool
) -> dict[str, Any]:
    """Open both pages of a run: first on an API server that has just come up, then again and again."""
    name = quote(run.dag_run_id, safe="")
    own = [f"/api/v2/dags/{run.dag_id}", f"/api/v2/dags/{run.dag_id}/dagRuns/{name}"]
    own.append(f"/api/v2/dags/{run.dag_id}/dagRuns/{name}/taskInstances")
    tab = [f"/metaflow/dags/{run.dag_id}/runs/{name}"]
    with (
        api_server(run.airflow, log, {**ADMINS, **settings}) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        if ready:
            wait_until(lambda: len(readers(root)) == 1, timeout=60)
            # It is made ready some seconds after it has been started.
            time.sleep(CACHE_SECONDS)
        first = {"airflow": timed(client, own), "tab": timed(client, tab)}
        page = client.get(tab[0]).text
        # The run itself, and not the message that there is none.
        assert f"{NAME}/{run.run_id}/start/" in page, page
        times: dict[str, list[float]] = {"airflow": [], "tab": []}
        for _ in range(rounds):
            time.sleep(CACHE_SECONDS + 0.1)
            times["airflow"].append(timed(client, own))
            times["tab"].append(timed(client, tab))
        processes = readers(root)
    return {
        "seconds": {side: round(statistics.median(found), 4) for side, found in times.items()},
        "first_opening_seconds": {side: round(found, 4) for side, found in first.items()},
        "reading_processes_megabytes": [round(one) for one in processes],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("METAFLOW_USER", "bench")
    home = Path(tempfile.mkdtemp(prefix="bench-page-"))
    found: dict[str, Any] = {}
    load = round(os.getloadavg()[0], 1)
    with object_store("127.0.0.1", home / "s3.log") as store, ExitStack() as stack:
        for name in ("METAFLOW_DATASTORE_SYSROOT_S3", "METAFLOW_S3_ENDPOINT_URL"):
            stack.enter_context(environment_variable(name, store.environment[name]))
        airflow = stack.enter_context(shared_airflow(home / "airflow"))
        airflow.create(FLOW, "--no-is-paused-upon-creation")
        airflow.create(FLOW, "--no-is-paused-upon-creation", top=("--datastore", "s3"), name="on-s3")
        runs = {"local": airflow.start(NAME, NAME), "s3": airflow.start("on-s3", NAME)}
        for run in runs.values():
            run.wait()
        found["local"] = measure(runs["local"], home / "local.log", {}, rounds, store.root, ready=False)
        stack.enter_context(environment_variable("METAFLOW_DEFAULT_DATASTORE", "s3"))
        found["s3"] = measure(runs["s3"], home / "api-s3.log", {}, rounds, store.root, ready=True)
        late = {"METAFLOW__WARM_PROCESS": "False"}
        found["s3, process not started before"] = measure(runs["s3"], home / "late.log", late, rounds, store.root, ready=False)
    report = {
        "command": "python benchmarks/page.py",
        "load_by_others": load,
        "sides": found,
        "ratio": {side: round(one["seconds"]["tab"] / one["seconds"]["airflow"], 3) for side, one in found.items()},
    }
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("page.json").write_text(json.dumps(report, indent=1) + "\n")
    for side in ("local", "s3"):
        for kind in ("seconds", "first_opening_seconds"):
            more = found[side][kind]["tab"]
            assert more <= LIMIT_SECONDS, f"{side}: the tab adds {more} s to Airflow's own page ({kind})"


if __name__ == "__main__":
    main()
