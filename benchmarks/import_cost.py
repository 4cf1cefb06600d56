"""What our extension adds to `import metaflow` in a task: the same code package with it and without it.

    python benchmarks/import_cost.py [--rounds 21]

A task imports the Metaflow of its code package, so that is what is measured; the two sides alternate, medians count.
Both sides run without `.pth` files, or an editable install of ours would bring the extension back.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from airflow_provider_metaflow.compute.local.code import PACKAGED_METAFLOW, unpacked
from airflow_provider_metaflow.compute.local.runner_process import step_environment
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest

FLOW = Path(__file__).parents[1] / "dags_examples" / "flows" / "demo.py"
MEASURE = """
import sys, time
start = time.perf_counter()
import metaflow
print(time.perf_counter() - start, any("airflow_provider_metaflow" in name for name in sys.modules))
"""


def measure(root: Path, *, loaded: bool) -> float:
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    result = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE],
        env=step_environment(environment, root),
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, found = result.stdout.split()
    assert (found == "True") == loaded, "the extension was not where it was expected"
    return float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="bench-import-"))
    os.environ.setdefault("METAFLOW_USER", "bench")
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(folder)
    manifest = load_manifest(FLOW, CompileOptions(python=sys.executable), folder)
    with unpacked(manifest.code, folder, manifest.command.datastore_root) as unpacked_folder:
        ours = unpacked_folder
    bare = folder / "bare"
    shutil.copytree(ours, bare, symlinks=True)
    shutil.rmtree(bare / PACKAGED_METAFLOW / "metaflow_extensions")
    times: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(rounds + 1):
        without, with_it = measure(bare, loaded=False), measure(ours, loaded=True)
        if number:  # the first round writes the byte code
            times["without"].append(without)
            times["with"].append(with_it)
    medians = {side: statistics.median(found) for side, found in times.items()}
    report = {
        "seconds": medians,
        "added_ms": round(1000 * (medians["with"] - medians["without"]), 2),
        "ratio": round(medians["with"] / medians["without"], 3),
    }
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("import_cost.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
