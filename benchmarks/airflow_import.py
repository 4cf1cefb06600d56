"""What having this package installed costs an Airflow process: its metadata and its plugin, as Airflow loads them.

    python benchmarks/airflow_import.py [--rounds 21]

Every measurement is a fresh process that has imported what every Airflow process has; measured is what our entry points add.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

MEASURE = """
import sys, time
import airflow.plugins_manager, airflow.providers_manager
before, start = set(sys.modules), time.perf_counter()
from airflow_provider_metaflow.get_provider_info import get_provider_info
get_provider_info()
from airflow_provider_metaflow.plugin.plugin import MetaflowPlugin
seconds = time.perf_counter() - start
added = set(sys.modules) - before
foreign = sorted(name for name in added if name.startswith(("airflow.providers.", "metaflow")))
assert not foreign, foreign
print(seconds, len(added))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    times, modules = [], 0
    for number in range(rounds + 1):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        result = subprocess.run(
            [sys.executable, "-c", MEASURE], env=environment, capture_output=True, text=True, check=True
        )
        seconds, count = result.stdout.split()[-2:]
        modules = int(count)
        if number:  # the first round writes the byte code
            times.append(float(seconds))
    report = {"added_ms": round(1000 * statistics.median(times), 2), "added_modules": modules}
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("airflow_import.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
