"""Wall time of a wide foreach, against a hand-written mapped DAG that runs the same `step` commands.

    python benchmarks/foreach.py                            # 50 wide, both sides, three rounds
    python benchmarks/foreach.py --width 10000 --alone      # ours only, compared with 100 wide in the same run
    python benchmarks/foreach.py --recursion 1000           # a recursive switch of 1,000 iterations

PostgreSQL and LocalExecutor(8), all processes real. The sides alternate in one Airflow; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.postgres import postgres  # noqa: E402

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow  # noqa: E402
from airflow_provider_metaflow.rest import dags, runs, task_instances  # noqa: E402

FLOW = """
from metaflow import FlowSpec, Parameter, step

class WideFlow(FlowSpec):
    width = Parameter("width", default=50)
    rounds = Parameter("rounds", default=1)

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
        self.count = 0
        self.next(self.loop)

    @step
    def loop(self):
        self.count += 1
        self.state = "more" if self.count < self.rounds else "done"
        self.next({"more": self.loop, "done": self.end}, condition="state")

    @step
    def end(self):
        assert self.total == self.width * (self.width - 1)

if __name__ == "__main__":
    WideFlow()
"""

BY_HAND = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator

TOP = "{python} {flow} --quiet --metadata=local --datastore=local --datastore-root={root} --no-pylint"
RUN = "{{{{ run_id }}}}"
WIDTH = {width}

def step(name, inputs, more="--task-id=t"):
    return f"{{TOP}} step {{name}} --run-id={{RUN}} {{more}} --retry-count=0 --input-paths={{inputs}}"

with DAG("by_hand", schedule=None, max_active_tasks=100) as dag:
    start = BashOperator(
        task_id="start",
        bash_command=f"{{TOP}} init --run-id={{RUN}} --task-id=p --width={{WIDTH}} && " + step("start", f"{{RUN}}/_parameters/p"),
    )
    body = BashOperator.partial(
        task_id="body",
        append_env=True,
        bash_command=step("body", f"{{RUN}}/start/t", "--task-id=t-$INDEX --split-index=$INDEX"),
    ).expand(env=[{{"INDEX": str(index)}} for index in range(WIDTH)])
    paths = ",".join(f"{{RUN}}/body/t-{{index}}" for index in range(WIDTH))
    collect = BashOperator(task_id="collect", bash_command=step("collect", paths))
    loop = BashOperator(task_id="loop", bash_command=step("loop", f"{{RUN}}/collect/t"))
    end = BashOperator(task_id="end", bash_command=step("end", f"{{RUN}}/loop/t"))
    start >> body >> collect >> loop >> end
"""


class Memory:
    """Samples the peak memory of the scheduler and of the biggest worker process."""

    def __init__(self, airflow: EmbeddedAirflow) -> None:
        self.peaks = {"scheduler_mib": 0.0, "worker_mib": 0.0}
        self._scheduler = psutil.Process(airflow._processes["scheduler"].pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(1):
            try:
                self._note("scheduler_mib", self._scheduler)
                for child in self._scheduler.children(recursive=True):
                    self._note("worker_mib", child)
            except psutil.Error:
                continue

    def _note(self, key: str, process: psutil.Process) -> None:
        try:
            self.peaks[key] = max(self.peaks[key], process.memory_info().rss / 2**20)
        except psutil.Error:
            pass

    def stop(self) -> dict[str, float]:
        self._stop.set()
        self._thread.join()
        return {key: round(value) for key, value in self.peaks.items()}


def timed(airflow: EmbeddedAirflow, dag: str, conf: dict[str, object], number: str, limit: float) -> float:
    dags.set_paused(airflow.client, dag, paused=False)
    run = runs.trigger(airflow.client, dag, f"bench-{dag}-{number}", conf).dag_run_id
    state = runs.wait_for_run(airflow.client, dag, run, timeout=limit, pause=1)
    assert state == "success", [one for one in task_instances.task_instances(airflow.client, dag, run) if one.state == "failed"][
        :3
    ]
    found = airflow.client.request("GET", f"/dags/{dag}/dagRuns/{run}")
    parse = datetime.fromisoformat
    return (parse(found["end_date"]) - parse(found["start_date"])).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--recursion", type=int, default=0)
    parser.add_argument("--limit", type=float, default=7200)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bench-foreach-"))
    os.environ["METAFLOW_USER"] = "bench"
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(home)
    (home / "flow").mkdir()
    flow = home / "flow" / "wide.py"
    flow.write_text(FLOW)
    with postgres() as database, EmbeddedAirflow(home=home / "airflow", database=database.url, parallelism=8) as airflow:
        subprocess.run(
            [sys.executable, flow.name, "--quiet", "--no-pylint", "airflow", "create", str(airflow.dags / "wide.py")],
            cwd=flow.parent,
            check=True,
            capture_output=True,
        )
        by_hand = BY_HAND.format(python=sys.executable, flow=flow, root=home / ".metaflow", width=options.width)
        (airflow.dags / "by_hand.py").write_text(by_hand)
        dags.wait_for_dag(airflow.client, "WideFlow")
        dags.wait_for_dag(airflow.client, "by_hand")
        timed(airflow, "WideFlow", {"width": 4}, "warm-up", 600)
        if options.recursion:
            name, report = "recursion", recursion(airflow, options.recursion)
        elif options.alone:
            name, report = f"foreach-{options.width}", alone(airflow, options.width, options.limit)
        else:
            name, report = f"foreach-{options.width}", compare(airflow, options.width, options.rounds)
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath(f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


def compare(airflow: EmbeddedAirflow, width: int, rounds: int) -> dict[str, object]:
    times: dict[str, list[float]] = {"ours": [], "by_hand": []}
    for number in range(rounds):
        times["by_hand"].append(timed(airflow, "by_hand", {}, str(number), 1800))
        times["ours"].append(timed(airflow, "WideFlow", {"width": width}, str(number), 1800))
    medians = {side: statistics.median(found) for side, found in times.items()}
    return {"width": width, "seconds": times, "ratio": round(medians["ours"] / medians["by_hand"], 3)}


def alone(airflow: EmbeddedAirflow, width: int, limit: float) -> dict[str, object]:
    report: dict[str, object] = {}
    for size in (100, width):
        memory = Memory(airflow)
        seconds = timed(airflow, "WideFlow", {"width": size}, str(size), limit)
        report[str(size)] = {"seconds": seconds, "per_task": round(seconds / size, 4), **memory.stop()}
        print(size, report[str(size)], flush=True)
    report["ratio"] = round(report[str(width)]["per_task"] / report["100"]["per_task"], 3)  # type: ignore[index]
    return report


def recursion(airflow: EmbeddedAirflow, rounds: int) -> dict[str, object]:
    start = time.monotonic()
    seconds = timed(airflow, "WideFlow", {"width": 1, "rounds": rounds}, "recursion", 3600)
    return {"iterations": rounds, "seconds": seconds, "wall": round(time.monotonic() - start, 1)}


if __name__ == "__main__":
    main()
