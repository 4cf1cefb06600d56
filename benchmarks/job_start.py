"""How often a job of AWS Batch starts Python before user code, against Metaflow's own deployer in the same run.

    python benchmarks/job_start.py               # one step on Step Functions, on moto with jobs as processes

A `sitecustomize` that all interpreters of a job import notes each start, and the step notes when its code runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from installation import HOME, ROOT
from tests.support.object_store import object_store
from tests.support.step_functions import StepFunctions, step_functions

NOTES, CUSTOM = HOME / "notes", HOME / "custom"
os.environ["TEST_BATCH_JOB_PYTHONPATH"] = str(CUSTOM)
SIDES = {"stock": "step-functions", "ours": "sfn"}
FLOW = """
from metaflow import FlowSpec, step

class OneFlow(FlowSpec):
    @step
    def start(self):
        with open(NOTES, "a") as file:
            file.write("user code\\n")
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    OneFlow()
"""


def starts(aws: StepFunctions, flow: Path, side: str) -> int:
    """Run the flow, and count the interpreters of its first job before user code."""
    command = [sys.executable, flow.name, "--quiet", "--no-pylint", SIDES[side], "--name", side, "create"]
    subprocess.run(command, cwd=flow.parent, capture_output=True, check=True, env={**os.environ, **aws.environment})
    NOTES.write_text("")
    aws.start(side, "OneFlow", {"Parameters": "{}"}).wait(timeout=300)
    return NOTES.read_text().splitlines().index("user code")


def main() -> None:
    CUSTOM.mkdir()
    (CUSTOM / "sitecustomize.py").write_text(
        f'import sys\nwith open({str(NOTES)!r}, "a") as file:\n    file.write("start %s\\n" % " ".join(sys.argv)[:60])\n'
    )
    flow = HOME / "one.py"
    flow.write_text(FLOW.replace("NOTES", repr(str(NOTES))))
    with object_store("127.0.0.1", HOME / "log") as store, step_functions(store) as aws:
        found = {side: starts(aws, flow, side) for side in SIDES}
    results = {"python_starts": found, "ratio": round(found["ours"] / found["stock"], 3)}
    print(results)
    (ROOT / "benchmarks/results/job_start.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
