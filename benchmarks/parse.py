"""DAG-processor time and memory of a deployed flow's DAG file, against a hand-written DAG of BashOperators.

    python benchmarks/parse.py [--rounds 7]

Every measurement is a fresh process that has imported what the DAG processor has imported before it forks: its own
modules, plugins, and Airflow's modules that the DAG file names. Measured are processor time of import, parse and
serialization of the one DAG file, which a neighbour on the machine does not change; memory is that of the whole
process, growth what the file added. The two sides alternate; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import gc, importlib, json, os, resource, sys, time
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
import airflow.dag_processing.manager
import airflow.dag_processing.processor
from airflow.dag_processing.dagbag import DagBag
from airflow.listeners.listener import get_listener_manager
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.file import iter_airflow_imports
# Plugins, as at the start of each job of Airflow's, and what it imports ahead (`parsing_pre_import_modules`).
get_listener_manager()
for file in os.scandir(sys.argv[1]):
    for name in iter_airflow_imports(file.path) if file.name.endswith(".py") else ():
        importlib.import_module(name)
def rss():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
# As Airflow does before it forks; else a full collection falls into one side's time by chance, 0.1 s of it.
gc.collect()
gc.freeze()
before, start, clock = rss(), time.process_time(), time.perf_counter()
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
data = [json.dumps(DagSerialization.to_dict(dag)) for dag in bag.dags.values()]
print(json.dumps({"seconds": time.process_time() - start, "clock_seconds": time.perf_counter() - clock, "kib": rss() - before, "process_kib": rss(), "tasks": sum(len(d.tasks) for d in bag.dags.values())}))
"""


def flow(steps: int) -> str:
    lines = ["from metaflow import FlowSpec, step", "", "class BenchFlow(FlowSpec):"]
    names = ["start", *(f"step{i}" for i in range(steps - 2)), "end"]
    for name, after in zip(names, [*names[1:], None], strict=True):
        lines += [
            "    @step",
            f"    def {name}(self):",
            f"        self.next(self.{after})" if after else "        pass",
        ]
    return "\n".join([*lines, "if __name__ == '__main__':", "    BenchFlow()", ""])


def by_hand(steps: int) -> str:
    lines = [
        "from airflow.sdk import DAG, Param",
        "from airflow.providers.standard.operators.bash import BashOperator",
        "with DAG('by_hand', schedule=None, catchup=False, tags=['x'], default_args={'owner': 'me'}) as dag:",
    ]
    names = ["start", *(f"step{i}" for i in range(steps - 2)), "end"]
    for name in names:
        command = f"python flow.py --quiet --metadata=local --datastore=local step {name} --run-id {{{{ run_id }}}}"
        lines.append(f"    {name} = BashOperator(task_id={name!r}, bash_command={command!r}, retries=0)")
    lines.append("    " + " >> ".join(names))
    return "\n".join([*lines, ""])


def measure(folder: Path) -> dict[str, float]:
    # An installed package has its byte code; so has a checkout after its first run, unless this forbids it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)],
        capture_output=True,
        text=True,
        env={**environment, "AIRFLOW_HOME": str(folder.parent / "home")},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("METAFLOW_USER", "bench")
    root = Path(tempfile.mkdtemp(prefix="bench-parse-"))
    report = {}
    for steps in (5, 50, 100, 500):
        sides = {}
        for side in ("ours", "by_hand"):
            sides[side] = root / f"{side}{steps}"
            sides[side].mkdir()
        (sides["by_hand"] / "dag.py").write_text(by_hand(steps))
        source = root / f"flow{steps}" / "bench.py"
        source.parent.mkdir()
        source.write_text(flow(steps))
        subprocess.run(
            [sys.executable, source.name, "--quiet", "--no-pylint", "airflow", "create", str(sides["ours"] / "dag.py")],
            cwd=source.parent,
            check=True,
            capture_output=True,
            env={**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(root)},
        )
        times: dict[str, list[dict[str, float]]] = {"ours": [], "by_hand": []}
        for number in range(rounds + 1):
            for side, folder in sides.items():
                found = measure(folder)
                if number:  # the first round writes the byte code
                    times[side].append(found)
        medians = {
            side: {key: statistics.median(one[key] for one in found) for key in ("seconds", "kib", "process_kib")}
            for side, found in times.items()
        }
        spreads = {
            side: round((max(values) - min(values)) / medians[side]["seconds"], 2)
            for side, values in ((side, [one["seconds"] for one in found]) for side, found in times.items())
        }
        report[f"{steps} steps"] = {
            **medians,
            "spread": spreads,
            "time_ratio": round(medians["ours"]["seconds"] / medians["by_hand"]["seconds"], 3),
            "growth_ratio": round(medians["ours"]["kib"] / medians["by_hand"]["kib"], 3),
            "memory_ratio": round(medians["ours"]["process_kib"] / medians["by_hand"]["process_kib"], 3),
        }
        print(f"{steps} steps:", report[f"{steps} steps"], flush=True)
    Path(__file__).with_name("results").joinpath("parse.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
