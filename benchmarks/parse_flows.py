"""Parses of 1, 40 and 200 flows by `load_flow_dags`, cold and warm, against as many hand-written DAGs in one file.

    python benchmarks/parse_flows.py [--rounds 5] [--flows 1 40 200] [--compiles 50]

Every measurement is a fresh process that has imported what the DAG processor has imported before it forks. Cold is the
time until all flows are compiled, which the compile server does; warm is the processor time of a parse with everything
in the cache. The sides alternate. Beside it, compiles by the server against one interpreter per flow, amortised over `--compiles` flows.
Medians count; the spread is (largest - smallest) / median.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parse import by_hand, flow, measure

STEPS = 5
FILE = 'from airflow_provider_metaflow import load_flow_dags\nload_flow_dags(globals(), "flows/")\n'

ONE_EACH = """
import sys
from pathlib import Path
from metaflow_orchestration.cache import Cache
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
for flow in sorted(Path(sys.argv[1]).glob("*.py")):
    load_manifest(flow, CompileOptions(python=sys.executable), Cache(Path(sys.argv[2])))
"""

SERVER = """
import sys
from pathlib import Path
from metaflow_orchestration.cache import Cache
from metaflow_orchestration.compile.background.client import compile_for
from metaflow_orchestration.compile.cache.entry import Entry
from metaflow_orchestration.compile.compiler import CompileOptions
cache, options = Cache(Path(sys.argv[2])), CompileOptions(python=sys.executable)
flows = [Entry.of(flow, options, cache) for flow in sorted(Path(sys.argv[1]).glob("*.py"))]
assert not compile_for(flows, cache, None)
assert all(flow.manifest() for flow in flows)
"""


def write_flows(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    for one in range(number):
        text = flow(STEPS).replace("BenchFlow", f"Bench{one}Flow")
        (folder / f"flow_{one:03}.py").write_text(text)


def many_by_hand(number: int) -> str:
    lines = by_hand(STEPS).splitlines()
    body = [line.replace("'by_hand'", "f'by_hand{number}'").replace(" as dag:", ":") for line in lines[2:]]
    return "\n".join([*lines[:2], f"for number in range({number}):", *(f"    {line}" for line in body), ""])


def seconds_of(program: str, flows: Path, cache: Path, processors: set[int]) -> float:
    shutil.rmtree(cache, ignore_errors=True)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, str(flows), str(cache)],
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, processors),
    )
    return time.perf_counter() - start


def summary(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    return {"median": round(middle, 4), "spread": round((max(values) - min(values)) / middle, 2)}


def parses(root: Path, number: int, rounds: int) -> dict[str, Any]:
    sides = {"ours": root / f"ours{number}", "by_hand": root / f"hand{number}"}
    write_flows(sides["ours"] / "flows", number)
    (sides["ours"] / "team.py").write_text(FILE)
    sides["by_hand"].mkdir()
    for folder in sides.values():
        (folder / ".airflowignore").write_text("flows/.*\n")
    (sides["by_hand"] / "dag.py").write_text(many_by_hand(number))
    os.environ["AIRFLOW__METAFLOW__CACHE_FOLDER"] = str(root / f"cache{number}")
    cold = measure(sides["ours"])["clock_seconds"]
    found: dict[str, list[dict[str, float]]] = {"ours": [], "by_hand": []}
    for one in range(rounds + 1):
        for side, folder in sides.items():
            result = measure(folder)
            if one:  # the first round writes the byte code
                found[side].append(result)
    report: dict[str, Any] = {"cold_seconds": round(cold, 2), "cold_seconds_per_flow": round(cold / number, 3)}
    for side, results in found.items():
        report[side] = {key: summary([one[key] for one in results]) for key in ("seconds", "process_kib")}
    for key, name in (("seconds", "warm_time_ratio"), ("process_kib", "memory_ratio")):
        report[name] = round(report["ours"][key]["median"] / report["by_hand"][key]["median"], 3)
    return report


def compiles(root: Path, number: int, rounds: int) -> dict[str, Any]:
    write_flows(root / "compiles", number)
    all_of_them = os.sched_getaffinity(0)
    one = {min(all_of_them)}
    sides = {
        "server": (SERVER, all_of_them), "server_on_one_core": (SERVER, one), "one_interpreter_each": (ONE_EACH, one),
    }  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (program, processors) in sides.items():
            found[name].append(seconds_of(program, root / "compiles", root / "compiles_cache", processors) / number)
    report: dict[str, Any] = {name: summary(values) for name, values in found.items()}
    report["times_faster"] = round(report["one_interpreter_each"]["median"] / report["server"]["median"], 2)
    return report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flows", type=int, nargs="*", default=[1, 40, 200])
    parser.add_argument("--compiles", type=int, default=50)
    given = parser.parse_args()
    os.environ.setdefault("METAFLOW_USER", "bench")
    # A parse in no DAG processor waits until all is compiled.
    os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "0"
    root = Path(tempfile.mkdtemp(prefix="bench-flows-"))
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(root)
    results = Path(__file__).with_name("results") / "parse_flows.json"
    report: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    report.update(load=os.getloadavg()[0], processors=os.cpu_count())
    for number in given.flows:
        report[f"{number} flows"] = parses(root, number, given.rounds)
        print(f"{number} flows:", report[f"{number} flows"], flush=True)
    if given.compiles:
        report["compiles"] = compiles(root, given.compiles, min(given.rounds, 3))
        print("compiles, seconds a flow:", report["compiles"], flush=True)
    results.write_text(json.dumps(report, indent=1) + "\n")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
