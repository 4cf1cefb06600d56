"""Time of `create --only-json` for Step Functions, against Metaflow's own deployer in the same run.

    python benchmarks/step_functions_compile.py [--rounds 7]     # flows of 5 and 100 steps, on moto

The sides alternate; medians count, of processor time above all, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from argo_size import flow_of
from installation import HOME, ROOT
from step_functions_size import SIDES, TABLE
from tests.support.object_store import object_store
from tests.support.step_functions import step_functions


def compiled(flow: Path, group: str, environment: dict[str, str]) -> tuple[float, float, int]:
    """Compile a flow, and return seconds of processor and of the clock, and the bytes that were printed."""
    command = [sys.executable, flow.name, "--quiet", "--no-pylint", group, "create", "--only-json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=flow.parent, capture_output=True, check=True, env=environment)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return processor, clock, len(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    results: dict[str, Any] = {"rounds": rounds}
    with object_store("127.0.0.1", HOME / "log") as store, step_functions(store) as aws:
        environment = {**os.environ, **aws.environment, "METAFLOW_SFN_DYNAMO_DB_TABLE": TABLE}
        for steps in (5, 100):
            flow = HOME / f"compile{steps}.py"
            flow.write_text(flow_of(steps))
            found: dict[str, list[tuple[float, float, int]]] = {side: [] for side in SIDES}
            # The first of each side fills caches of bytecode.
            for _ in range(rounds + 1):
                for side, group in SIDES.items():
                    found[side].append(compiled(flow, group, environment))
            one: dict[str, Any] = {}
            for number, name in enumerate(("processor_seconds", "clock_seconds")):
                for side in SIDES:
                    values = [values[number] for values in found[side][1:]]
                    one[f"{side}_{name}"] = round(statistics.median(values), 3)
                    one[f"{side}_{name}_range"] = [round(min(values), 3), round(max(values), 3)]
                one[f"{name}_ratio"] = round(one[f"ours_{name}"] / one[f"stock_{name}"], 3)
            one["load_average"] = [round(value, 1) for value in os.getloadavg()]
            results[f"{steps} steps"] = one
            print(f"{steps} steps: {one}", flush=True)
    file = ROOT / "benchmarks/results/step_functions_compile.json"
    file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
