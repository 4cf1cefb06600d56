"""Pods, nodes and starts of Python of a run on a real Argo Workflows, against Metaflow's own template in the same run.

    python benchmarks/argo_run.py                # on the cluster of tests/kubernetes, 3 rounds

Same image, same object store, same flow; the sides alternate. A `sitecustomize` that all interpreters of a pod import
notes each start; user code counts them, and tells the seconds since the first process of its container.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime

from installation import HOME, ROOT
from tests.support.argo import Argo, argo
from tests.support.kubernetes import HOST, NAMESPACE, cluster
from tests.support.object_store import CREDENTIALS, object_store

SIDES = {"stock": "argo-workflows", "ours": "argo"}
FLOW = """
import os
from metaflow import FlowSpec, step

class RunFlow(FlowSpec):
    @step
    def start(self):
        # The first process of the container started at field 22 of its stat, in ticks since the boot (proc(5)).
        ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
        self.seconds = float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
        self.starts = len(open("/tmp/starts").readlines())
        self.items = [1, 2, 3]
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
    RunFlow()
"""
CUSTOM = 'import sys\nwith open("/tmp/starts", "a") as file:\n    file.write(" ".join(sys.argv)[:60] + "\\n")\n'
PATCH = {
    "volumes": [{"name": "bench", "configMap": {"name": "bench"}}],
    "containers": [
        {
            "name": "main",
            "env": [
                {"name": "PYTHONPATH", "value": "/bench"},
                {"name": "METAFLOW_SKIP_INSTALL_DEPENDENCIES", "value": "1"},
            ],
            "volumeMounts": [{"name": "bench", "mountPath": "/bench"}],
        }
    ],
}


def run(controller: Argo, template: str) -> Mapping[str, float]:
    """Run a template; return what it took."""
    started = controller.start(template, "RunFlow", podSpecPatch=json.dumps(PATCH))
    status = started.wait(timeout=600)["status"]
    nodes = status["nodes"].values()
    begin, end = (datetime.fromisoformat(status[key].replace("Z", "+00:00")) for key in ("startedAt", "finishedAt"))
    (start,) = started.artifacts()["start"].values()
    return {
        "pods": sum(node["type"] == "Pod" for node in nodes),
        "nodes": len(nodes),
        "python_starts_before_user_code": start["starts"],
        "seconds_to_user_code": start["seconds"],
        "seconds_of_the_run": (end - begin).total_seconds(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    flow = HOME / "run.py"
    flow.write_text(FLOW)
    found: dict[str, list[Mapping[str, float]]] = {side: [] for side in SIDES}
    with (
        cluster(CREDENTIALS) as kube,
        object_store(HOST, HOME / "log") as store,
        argo(kube, store) as controller,
    ):
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "bench", "namespace": NAMESPACE},
                "data": {"sitecustomize.py": CUSTOM},
            }
        )
        for side, group in SIDES.items():
            command = [sys.executable, flow.name, "--quiet", "--no-pylint", group, "--name", f"run-{side}", "create"]
            environment = {**os.environ, **controller.environment}
            done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
        for _ in range(rounds):
            for side in SIDES:
                found[side].append(run(controller, f"run-{side}"))
                print(side, dict(found[side][-1]), flush=True)
        controller.clean()
    results = {}
    for key in found["ours"][0]:
        ours, stock = (statistics.median(one[key] for one in found[side]) for side in ("ours", "stock"))
        results[key] = {"ours": round(ours, 2), "stock": round(stock, 2), "ratio": round(ours / stock, 2)}
    print(json.dumps(results, indent=2))
    (ROOT / "benchmarks/results/argo_run.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
