"""Wall time of a wide foreach in pods, against a hand-written mapped KubernetesPodOperator that does the same steps.

    python benchmarks/foreach_pods.py            # 50 wide, one round a side, on the cluster of tests/kubernetes

The hand-written side runs Metaflow's own container command for each step: same image, package, store and cluster;
PostgreSQL and LocalExecutor(8), all processes real. The body's span counts: from the first start of a mapped task to
the last end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from container_start import STOCK
from installation import HOME, ROOT
from tests.support.airflow import SharedAirflow, shared_airflow
from tests.support.kubernetes import HOST, IMAGE, NAMESPACE, SECRET, cluster, step_settings
from tests.support.object_store import CREDENTIALS, object_store

from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import read_manifest

FLOW = """
from metaflow import FlowSpec, Parameter, step

class WideFlow(FlowSpec):
    width = Parameter("width", default=50)

    @step
    def start(self):
        self.items = list(range(self.width))
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.v = self.input * 2
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.total = sum(inp.v for inp in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    WideFlow()
"""

BY_HAND = '''
"""DAG of airflow."""
import json
from airflow.sdk import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

COMMANDS = json.load(open({commands!r}))
ENVIRONMENT = json.load(open({environment!r}))

def pod(name, **more):
    return dict(
        task_id=name, name=name, namespace={namespace!r}, image={image!r}, image_pull_policy="Never",
        config_file={kubeconfig!r}, env_vars=ENVIRONMENT, startup_check_interval_seconds=1,
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name={secret!r}))],
        container_resources=k8s.V1ResourceRequirements(requests=dict(cpu="0.05", memory="100M")), **more)

with DAG("by_hand", schedule=None, catchup=False):
    start = KubernetesPodOperator(**pod("start", cmds=COMMANDS["start"]))
    body = KubernetesPodOperator.partial(**pod("body")).expand(cmds=COMMANDS["body"])
    start >> body
'''

STEP = STOCK.replace('"BenchFlow", run, "start", "t", 0', '"WideFlow", run, name, task, 0').replace(
    "run, url, metadata, root, flow = sys.argv[1:]", "run, url, metadata, root, flow, name, task, more = sys.argv[1:]"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=50)
    width = parser.parse_args().width
    with cluster(CREDENTIALS) as kube, object_store(HOST, HOME / "log") as store:
        os.environ.update(store.environment)
        settings = {
            "METAFLOW_AIRFLOW_KUBERNETES_KUBECONFIG_FILE": str(kube.kubeconfig),
            **step_settings(cpu="0.05"),
            "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
        }
        os.environ.update(settings)
        with shared_airflow(HOME / "airflow", CORE__MAX_MAP_LENGTH="1024") as airflow:
            flow = HOME / "wide.py"
            flow.write_text(FLOW)
            file = airflow.create(flow, top=("--with", "kubernetes"), name="ours")
            write_by_hand(airflow, file.with_suffix(".metaflow.json"), str(kube.kubeconfig), width)
            spans = {}
            for dag_id in ("by_hand", "ours"):
                run = airflow.start(dag_id, "WideFlow", {"width": width} if dag_id == "ours" else {})
                run.wait(timeout=1800)
                spans[dag_id] = span(airflow, dag_id, run.dag_run_id)
                print(dag_id, round(spans[dag_id], 1), flush=True)
    result = {"width": width, "seconds": spans, "ratio": round(spans["ours"] / spans["by_hand"], 3)}
    print(json.dumps(result, indent=1))
    (ROOT / "benchmarks/results/foreach_pods.json").write_text(json.dumps(result, indent=1) + "\n")


def write_by_hand(airflow: SharedAirflow, manifest_file: Path, kubeconfig: str, width: int) -> None:
    manifest = read_manifest(manifest_file)
    first = command(manifest, "start", "t", "--input-paths=by-hand/_parameters/t-params")
    body = [
        command(manifest, "body", f"t-{n}", f"--input-paths=by-hand/start/t --split-index={n}") for n in range(width)
    ]
    (HOME / "commands.json").write_text(json.dumps({"start": first, "body": body}))
    (HOME / "environment.json").write_text(json.dumps(remote_settings(manifest).environment))
    airflow.write_dag(
        "by_hand",
        BY_HAND.format(
            commands=str(HOME / "commands.json"), environment=str(HOME / "environment.json"), namespace=NAMESPACE,
            image=IMAGE, kubeconfig=kubeconfig, secret=SECRET,
        ),
    )  # fmt: skip


def command(manifest: Any, name: str, task: str, more: str) -> list[str]:
    script = STEP
    if name != "start":
        script = script.replace("step_cmds=[init, step]", "step_cmds=[step]")
    script = script.replace(
        "step start --run-id={run} --task-id=t", "step {name} --run-id={run} --task-id={task} {more}"
    )
    script = script.replace('step += f"--input-paths={run}/_parameters/t-params"', "")
    code = manifest.code
    arguments = ["by-hand", code.url, code.metadata, manifest.command.datastore_root, code.flow_file, name, task, more]
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return list(json.loads(result.stdout.splitlines()[-1]))


def span(airflow: SharedAirflow, dag_id: str, run_id: str) -> float:
    """Return the seconds from the first start to the last end of the mapped tasks."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
    found = airflow.server.client.request("GET", path, params={"limit": 100, "task_id": "body"})["task_instances"]
    body = [one for one in found if one["task_id"] == "body"]
    start = min(datetime.fromisoformat(one["start_date"]) for one in body)
    return (max(datetime.fromisoformat(one["end_date"]) for one in body) - start).total_seconds()


if __name__ == "__main__":
    main()
