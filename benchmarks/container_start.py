"""Time from the start of a container to user code, and to its end: our container command against Metaflow's own.

    python benchmarks/container_start.py            # on the cluster of tests/kubernetes, 7 rounds

Same image, same code package, same object store, same step; the sides alternate. The time of user code is an artifact of
the step, the container's own times are those of the Kubernetes API, to the second, so the start is told by the container
itself: both commands are run by `sh -c 'date +%s.%N >&2; exec "$@"'`.
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
from typing import Any

from installation import ROOT
from tests.support.kubernetes import HOST, IMAGE, NAMESPACE, SECRET, Cluster, cluster
from tests.support.object_store import CREDENTIALS, object_store

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.containers.command import (
    TASK_VARIABLE,
    container_command,
    encode_document,
    first_environment,
    task_document,
)
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.run.commands import StepCall

FLOW = """
import time
from metaflow import FlowSpec, step

class BenchFlow(FlowSpec):
    @step
    def start(self):
        print("USER CODE %.3f" % time.time(), flush=True)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    BenchFlow()
"""

STOCK = """
import json, os, sys
from metaflow.metaflow_environment import MetaflowEnvironment
from metaflow.plugins.kubernetes.kubernetes import Kubernetes

class Type:
    TYPE = "s3"

run, url, metadata, root, flow = sys.argv[1:]
top = f"--quiet --metadata=local --environment=local --datastore=s3 --datastore-root={root} --no-pylint"
# What Metaflow's Airflow group puts into the pod of a start step, without parameters.
init = (f"if ! python {flow} dump --max-value-size=0 {run}/_parameters/t-params >/dev/null 2>/dev/null; then "
        f"python {flow} {top} init --run-id={run} --task-id=t-params; fi")
step = f"python {flow} {top} step start --run-id={run} --task-id=t --retry-count=0 --max-user-code-retries=0 "
step += f"--input-paths={run}/_parameters/t-params"
print(json.dumps(Kubernetes(Type, None, MetaflowEnvironment(None))._command(
    "BenchFlow", run, "start", "t", 0, code_package_metadata=metadata, code_package_url=url, step_cmds=[init, step])))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp())
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    with cluster(CREDENTIALS) as kube, object_store(HOST, folder / "log") as store:
        os.environ.update(store.environment, METAFLOW_DEFAULT_METADATA="local")
        os.environ.update(METAFLOW_KUBERNETES_CONTAINER_IMAGE=IMAGE)
        (folder / "bench.py").write_text(FLOW)
        options = CompileOptions(python=sys.executable, top_level=("--with", "kubernetes"))
        manifest = load_manifest(folder / "bench.py", options, folder)
        for number in range(-1, rounds):
            for side in times:
                run = f"{side}-{number}"
                environment = {**remote_settings(manifest).environment, "METAFLOW_KUBERNETES_WORKLOAD": "1"}
                if side == "ours":
                    call = StepCall(
                        step=manifest.graph.step("start"), run_id=run, task_id="t", attempt=0, max_user_retries=0,
                        inputs=(f"{run}/_parameters/t-params",),
                    )  # fmt: skip
                    document = task_document(manifest, manifest.code, [call], environment=environment, parameters={})
                    command = container_command(manifest, manifest.code, "start")
                    environment = {
                        **first_environment(manifest, manifest.code),
                        TASK_VARIABLE: encode_document(document, lambda _: ""),
                    }
                else:
                    command = stock_command(manifest, run)
                environment["METAFLOW_SKIP_INSTALL_DEPENDENCIES"] = "1"
                measured = measure(kube, run, command, environment)
                if number >= 0:
                    times[side].append(measured)
                    print(side, *(f"{value:.2f}" for value in measured), flush=True)
    report(times, rounds)


def stock_command(manifest: Any, run: str) -> list[str]:
    code = manifest.code
    arguments = [run, code.url, code.metadata, manifest.command.datastore_root, code.flow_file]
    result = subprocess.run([sys.executable, "-c", STOCK, *arguments], capture_output=True, text=True, check=True)
    return list(json.loads(result.stdout.splitlines()[-1]))


def measure(kube: Cluster, name: str, command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a pod; return the seconds from its container's first word to user code and to its last word."""
    clock = 'echo "BEGIN $(date +%s.%N)"; "$@"; code=$?; echo "END $(date +%s.%N)"; exit $code'
    field = {"METAFLOW_KUBERNETES_POD_NAMESPACE": "metadata.namespace", "METAFLOW_KUBERNETES_POD_NAME": "metadata.name",
             "METAFLOW_KUBERNETES_POD_ID": "metadata.uid", "METAFLOW_KUBERNETES_NODE_IP": "status.hostIP",
             "METAFLOW_KUBERNETES_SERVICE_ACCOUNT_NAME": "spec.serviceAccountName"}  # fmt: skip
    escape = [word.replace("$(", "$$(") for word in command]
    container = {
        "name": "base", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["bash", "-c", clock.replace("$(", "$$("), "clock", *escape],
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "env": [
            *({"name": k, "value": v.replace("$(", "$$(")} for k, v in environment.items()),
            *({"name": k, "valueFrom": {"fieldRef": {"fieldPath": v}}} for k, v in field.items()),
        ],
    }  # fmt: skip
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }
    )
    while True:
        (pod,) = [one for one in kube.get("pods") if one["metadata"]["name"] == name]
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            break
        time.sleep(0.5)
    log = kube.kubectl("-n", NAMESPACE, "logs", name)
    kube.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    assert pod["status"]["phase"] == "Succeeded", log
    words = {}
    for line in log.splitlines():
        for word in ("BEGIN", "USER CODE", "END"):
            if word in line:
                words[word] = float(line.rsplit(" ", 1)[1])
    return words["USER CODE"] - words["BEGIN"], words["END"] - words["BEGIN"]


def report(times: dict[str, list[tuple[float, float]]], rounds: int) -> None:
    medians = {
        side: [statistics.median(one[which] for one in measured) for which in (0, 1)]
        for side, measured in times.items()
    }
    result = {
        "rounds": rounds,
        "seconds_to_user_code": {side: round(values[0], 3) for side, values in medians.items()},
        "seconds_to_end": {side: round(values[1], 3) for side, values in medians.items()},
        "ratio_to_user_code": round(medians["ours"][0] / medians["stock"][0], 3),
        "ratio_to_end": round(medians["ours"][1] / medians["stock"][1], 3),
    }
    print(json.dumps(result, indent=1))
    (ROOT / "benchmarks/results/container_start.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
