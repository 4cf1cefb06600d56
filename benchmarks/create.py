"""Time of `airflow create` on one flow: ours, ours again on the unchanged flow, and Metaflow's own group.

    python benchmarks/create.py [--rounds 5]

Metaflow's own group takes no local datastore, so both sides get moto's S3, started here (pip install "moto[server,s3]").
The stock group is reached by hiding our extension from the process. The sides alternate; medians count.

Against `import metaflow` in an interpreter of its own, which no command can do without, ours is measured with a local
datastore: with S3 it pays for boto3 as well, as stock does. `version` is the least that Metaflow's command line does.
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
from pathlib import Path

FLOW = """
from metaflow import FlowSpec, step

class CreateFlow(FlowSpec):
    @step
    def start(self):
        self.items = [1, 2]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    CreateFlow()
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="bench-create-"))
    (folder / "dags").mkdir()
    (importing := folder / "importing.py").write_text("import metaflow\n")
    environment = {
        **os.environ,
        "METAFLOW_USER": "bench",
        "METAFLOW_HOME": str(folder / "home"),
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://bench/metaflow",
        "METAFLOW_S3_ENDPOINT_URL": url,
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder),
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import boto3

    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    ).create_bucket(Bucket="bench")
    stock = {**environment, "BENCH_STOCK": "1"}
    local = {**environment, "METAFLOW_DEFAULT_DATASTORE": "local"}
    sides = ("ours_changed", "ours_unchanged", "stock", "ours_local", "import_metaflow", "version")
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        flow = folder / f"flow{number}" / "create.py"
        flow.parent.mkdir()
        flow.write_text(f"# {number}\n{FLOW}")
        dags = folder / "dags"
        times["stock"].append(run(flow, stock, "airflow", "create", str(dags / f"stock{number}.py")))
        times["ours_changed"].append(run(flow, environment, "airflow", "create", str(dags / "ours.py")))
        times["ours_unchanged"].append(run(flow, environment, "airflow", "create", str(dags / "ours.py")))
        times["ours_local"].append(run(flow, local, "airflow", "create", str(dags / "local.py")))
        times["import_metaflow"].append(run(importing, local))
        times["version"].append(run(flow, local, "version"))
    medians = {side: round(statistics.median(found), 3) for side, found in times.items()}
    report = {
        "seconds": medians,
        "changed_ratio": round(medians["ours_changed"] / medians["stock"], 3),
        "unchanged_ratio": round(medians["ours_unchanged"] / medians["stock"], 3),
        "import_ratio": round(medians["ours_local"] / medians["import_metaflow"], 3),
        "version_to_import_ratio": round(medians["version"] / medians["import_metaflow"], 3),
    }
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("create.json").write_text(json.dumps(report, indent=1) + "\n")
    server.stop()


# Runs a flow with the names of our extension taken away first, as if it were not installed.
STOCK = """
import runpy, sys
sys.argv = sys.argv[1:]
import importlib.metadata as m
original = m.distributions
m.distributions = lambda *a, **k: (d for d in original(*a, **k) if d.metadata["Name"] != "airflow-provider-metaflow")
sys.path[:] = [p for p in sys.path if not p.rstrip("/").endswith("/provider")]
sys.path.insert(0, __import__("os").path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(file: Path, environment: dict[str, str], *arguments: str) -> float:
    head = [sys.executable, "-c", STOCK] if environment.get("BENCH_STOCK") else [sys.executable]
    command = [*head, str(file), *(["--no-pylint", *arguments] if arguments else [])]
    start = time.perf_counter()
    result = subprocess.run(command, env=environment, cwd=file.parent, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert result.returncode == 0, result.stdout + result.stderr
    return seconds


if __name__ == "__main__":
    main()
