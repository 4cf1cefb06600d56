"""From the start of a worker pod of the KubernetesExecutor to user code: a step against a hand-written task.

    python benchmarks/worker_pod_start.py        # 5 of each, by turns, on the cluster of tests/kubernetes

Both run in the same image, with the same pod template, on the same Airflow. What is measured is how old the first
process of the container is when user code runs: the start of Python and Airflow, the DAG file, and, for the step, the
code package and Metaflow. The flow is deployed with `airflow create` and has its datastore in S3 of this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from installation import HOME, ROOT
from tests.support.airflow import FlowRun
from tests.support.kubernetes import HOST, cluster
from tests.support.kubernetes_executor import KubernetesAirflow, kubernetes_airflow
from tests.support.object_store import CREDENTIALS, object_store

AGE = """
def age():
    import os
    from pathlib import Path

    started = float(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - started / os.sysconf("SC_CLK_TCK")
"""

FLOW = f"""from metaflow import FlowSpec, step
{AGE}

class StartsFlow(FlowSpec):
    @step
    def start(self):
        self.age = age()
        self.next(self.end)

    @step
    def end(self):
        self.age = age()


if __name__ == "__main__":
    StartsFlow()
"""

BY_HAND = f'''"""A DAG of airflow."""
from airflow.sdk import DAG, task
{AGE}

with DAG("by_hand", schedule=None, catchup=False):

    @task
    def prints():
        print("hello")
        return age()

    prints()
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    ages: dict[str, list[float]] = {"by_hand": [], "start": [], "end": []}
    with (
        cluster(CREDENTIALS) as kube,
        object_store(HOST, HOME / "log") as store,
        kubernetes_airflow(kube, store) as started,
    ):
        flow = HOME / "starts.py"
        flow.write_text(FLOW)
        started.airflow.create(flow)
        started.deploy({"by_hand.py": BY_HAND})
        for _ in range(rounds):
            ages["by_hand"].append(by_hand(started))
            for step, age in of_steps(started).items():
                ages[step].append(age)
            print(json.dumps({name: round(found[-1], 2) for name, found in ages.items()}), flush=True)
    seconds = {name: round(statistics.median(found), 2) for name, found in ages.items()}
    ratios = {step: round(seconds[step] / seconds["by_hand"], 2) for step in ("start", "end")}
    result: dict[str, Any] = {"rounds": rounds, "seconds": seconds, "ratio": ratios}
    print(json.dumps(result, indent=1))
    (ROOT / "benchmarks/results/worker_pod_start.json").write_text(json.dumps(result, indent=1) + "\n")


def by_hand(started: KubernetesAirflow) -> float:
    run = started.airflow.start("by_hand", "")
    run.wait()
    path = f"/dags/by_hand/dagRuns/{run.dag_run_id}/taskInstances/prints/xcomEntries/return_value"
    return float(started.airflow.server.client.request("GET", path)["value"])


def of_steps(started: KubernetesAirflow) -> dict[str, float]:
    run: FlowRun = started.airflow.start("StartsFlow", "StartsFlow")
    run.wait()
    found = started.artifacts(run)
    return {step: found[step][(), ()]["age"] for step in ("start", "end")}


if __name__ == "__main__":
    main()
