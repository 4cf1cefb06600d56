"""Size of a flow on Argo and time to compile it, against Metaflow's own generator in the same run.

    python benchmarks/argo_size.py               # flows of 5 and 100 steps, on an S3 by moto
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml
from installation import HOME, ROOT, printed_json
from tests.support.object_store import object_store

ROUNDS = 5
SIDES = {"stock": "argo-workflows", "ours": "argo"}


def flow_of(steps: int) -> str:
    """A flow with a foreach at its start, and then steps in a row."""
    names = ["start", "body", "join", *(f"step{number}" for number in range(steps - 4)), "end"]
    lines = ["from metaflow import FlowSpec, Parameter, retry, step", "", "class BenchFlow(FlowSpec):"]
    lines += ['    alpha = Parameter("alpha", default=1)', ""]
    for name, following in zip(names, [*names[1:], None], strict=True):
        lines += ["    @retry(times=2)", "    @step", f"    def {name}(self{', inputs' if name == 'join' else ''}):"]
        if name == "start":
            lines += ["        self.items = [1, 2, 3]", '        self.next(self.body, foreach="items")', ""]
        else:
            lines += [f"        self.next(self.{following})" if following else "        pass", ""]
    return "\n".join([*lines, 'if __name__ == "__main__":', "    BenchFlow()", ""])


def create(flow: Path, group: str) -> tuple[int, float, float]:
    """Return the size of the flow's YAML in bytes, and the seconds that `create` took, on the clock and of processors."""
    command = [sys.executable, flow.name, "--quiet", "--no-pylint", group, "create", "--only-json"]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=flow.parent, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = printed_json(done.stdout)
    documents = found if isinstance(found, list) else [found]
    return sum(len(yaml.safe_dump(one, sort_keys=False, width=10**6)) for one in documents), seconds, processor


def main() -> None:
    with object_store("127.0.0.1", HOME / "log") as store:
        os.environ.update(store.environment)
        os.environ.update(METAFLOW_KUBERNETES_CONTAINER_IMAGE="image:1", METAFLOW_KUBERNETES_NAMESPACE="flows")
        results: dict[str, dict[str, float]] = {}
        for steps in (5, 100):
            flow = HOME / f"bench{steps}.py"
            flow.write_text(flow_of(steps))
            found: dict[str, list[tuple[int, float, float]]] = {side: [] for side in SIDES}
            for _ in range(ROUNDS):
                for side, group in SIDES.items():
                    found[side].append(create(flow, group))
            size = {side: rounds[0][0] for side, rounds in found.items()}
            seconds = {side: statistics.median(one for _, one, _ in rounds) for side, rounds in found.items()}
            processor = {side: statistics.median(one for *_, one in rounds) for side, rounds in found.items()}
            results[f"{steps} steps"] = {
                "yaml_bytes": size["ours"],
                "yaml_bytes_stock": size["stock"],
                "yaml_ratio": round(size["ours"] / size["stock"], 3),
                "compile_seconds": round(seconds["ours"], 2),
                "compile_seconds_stock": round(seconds["stock"], 2),
                "compile_ratio": round(seconds["ours"] / seconds["stock"], 2),
                # What other work on the machine hardly changes.
                "compile_processor_seconds": round(processor["ours"], 2),
                "compile_processor_seconds_stock": round(processor["stock"], 2),
                "compile_processor_ratio": round(processor["ours"] / processor["stock"], 2),
            }
            print(
                f"{steps} steps: YAML {size['ours']} bytes against {size['stock']}, "
                f"ratio {size['ours'] / size['stock']:.2f}; compile {seconds['ours']:.1f} s against "
                f"{seconds['stock']:.1f} s, ratio {seconds['ours'] / seconds['stock']:.2f}; of processors "
                f"{processor['ours']:.2f} s against {processor['stock']:.2f} s"
            )
        file = ROOT / "benchmarks/results/argo_size.json"
        file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
