"""What having this package installed costs Airflow: its metadata each process, its plugin a component when that starts.

    python benchmarks/airflow_import.py [--rounds 21]

Every measurement is a fresh process that has imported what a scheduler has; measured is what our entry points add. The
plugin imports what DAG files import, so that each process that the component forks finds it in memory.
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
import json, sys, time
import airflow.jobs.scheduler_job_runner, airflow.plugins_manager, airflow.providers_manager
before, start = set(sys.modules), time.process_time()
from airflow_provider_metaflow.get_provider_info import get_provider_info
get_provider_info()
told = time.process_time()
from airflow_provider_metaflow.plugin.plugin import MetaflowPlugin
end = time.process_time()
added = set(sys.modules) - before
foreign = sorted(name for name in added if name.startswith(("airflow.providers.", "metaflow.")) or name == "metaflow")
assert not foreign, foreign
print(json.dumps({"metadata_ms": 1000 * (told - start), "plugin_ms": 1000 * (end - told), "added_modules": len(added)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    found: list[dict[str, float]] = []
    for number in range(rounds + 1):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        result = subprocess.run(
            [sys.executable, "-c", MEASURE], env=environment, capture_output=True, text=True, check=True
        )
        if number:  # the first round writes the byte code
            found.append(json.loads(result.stdout.splitlines()[-1]))
    report = {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("airflow_import.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
