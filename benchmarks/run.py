"""Run all benchmarks, one after the other, and write the table of docs/performance.md from their results.

    python benchmarks/run.py                   # needs PostgreSQL and the cluster of tests/kubernetes, and an hour
    python benchmarks/run.py parse create      # these only

A benchmark that fails is named at the end, and its results of before stay.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "airflow_import": ((),),
    "import_cost": ((),),
    "parse": ((),),
    "parse_flows": ((),),
    "create": ((),),
    "trigger": ((),),
    "page": ((),),
    "sensors": ((),),
    "foreach": ((), ("--width", "10000", "--alone"), ("--recursion", "1000")),
    "argo_size": ((),),
    "step_functions_size": ((),),
    "step_functions_compile": ((),),
    "job_start": ((),),
    "container_start": ((),),
    "worker_pod_start": ((),),
    "argo_run": ((),),
    "argo_wide": ((),),
    "foreach_pods": ((),),
    # After those whose results it draws.
    "width": ((),),
}
"""Arguments of each run of a benchmark, by its name."""


def main(names: list[str]) -> int:
    """Run benchmarks; return the exit status.

    :param names: of the benchmarks; none stands for all.
    """
    unknown = [name for name in names if name not in COMMANDS]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. Benchmarks are: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    failed = []
    for name in names or COMMANDS:
        for arguments in COMMANDS[name]:
            print("==", name, *arguments, flush=True)
            if subprocess.run([sys.executable, FOLDER / f"{name}.py", *arguments]).returncode != 0:
                failed.append(" ".join((name, *arguments)))
    if subprocess.run([sys.executable, FOLDER / "report.py"]).returncode != 0:
        failed.append("report")
    for name in failed:
        print(f"{name} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
