"""What 500 deferred sensors cost a triggerer, against a process per poll, which is how they asked before.

    python benchmarks/sensors.py [--sensors 500] [--interval 30] [--seconds 60]

Half of the sensors wait for a run (of the service: for an artifact of its last step), half for an artifact. Two sides of ours: a local datastore, whose files are read,
and a metadata service (its double of the tests, in a process that is not counted), which the long-lived process asks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOME = Path(tempfile.mkdtemp(prefix="bench-sensors-"))
sys.path.insert(0, str(ROOT))
os.environ.update(
    AIRFLOW_HOME=str(HOME / "airflow"), METAFLOW_HOME=str(HOME / "metaflow"), METAFLOW_USER="bench",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
)  # fmt: skip

from tests.support.environment import environment_variable  # noqa: E402
from tests.support.results import run_locally  # noqa: E402

from airflow_provider_metaflow.reading.pool import POOL  # noqa: E402
from airflow_provider_metaflow.triggers.metaflow import MetaflowTrigger  # noqa: E402

FLOW = ROOT / "tests" / "flows" / "linear.py"
SERVICE = """
import sys, time
from tests.support.metadata_service import metadata_service
with metadata_service("key") as service:
    print(service.url, flush=True)
    sys.stdin.read()
"""
BEFORE = """
import sys, metaflow
metaflow.namespace(None)
print(metaflow.Run(sys.argv[1]).finished)
"""


@contextmanager
def service() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip()  # type: ignore[union-attr]
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()


def seconds_of(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes_of(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def readers() -> list[int]:
    return [one._process.pid for one in POOL._processes.values()]


def artifact(pathspec: str) -> dict[str, Any]:
    """Return the question for an artifact that never comes."""
    return {"op": "artifact", "pathspec": pathspec, "name": "absent", "max_bytes": 999, "value": True}


async def measure(
    connection: str, questions: tuple[dict[str, Any], dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Let the sensors wait, and return what they cost once the first have asked."""
    triggers = [
        MetaflowTrigger(connection, questions[n % 2], options.interval, n * options.interval / options.sensors)
        for n in range(options.sensors)
    ]
    waiting = [asyncio.ensure_future(anext(one.run())) for one in triggers]
    await asyncio.sleep(10)
    started, own, theirs = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF), sum(map(seconds_of, readers()))
    await asyncio.sleep(options.seconds)
    elapsed, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    ended = [one.result() for one in waiting if one.done()]
    assert not ended, f"a sensor has not waited: {ended[0]}"
    spent = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime + sum(map(seconds_of, readers())) - theirs
    polls = elapsed * options.sensors / options.interval
    found = {
        "cores": round(spent / elapsed, 3),
        "cpu_ms_per_poll": round(1000 * spent / polls, 2),
        "processes": len(readers()),
        "megabytes_of_processes": round(sum(map(megabytes_of, readers()))),
    }
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return found


def before(pathspec: str, sysroot: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a process per poll costs, from some polls."""
    environment = {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(sysroot)}
    count = 10
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(count):
        result = subprocess.run(
            [sys.executable, "-c", BEFORE, pathspec], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == "False", result.stdout
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    each = (end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime) / count
    return {
        "cores": round(each * options.sensors / options.interval, 3),
        "cpu_ms_per_poll": round(1000 * each, 2),
        "megabytes_of_a_poll": round(end.ru_maxrss / 1024),
    }


def unfinished(sysroot: Path, *top: str) -> str:
    """Make a run whose last step has not started; return its pathspec."""
    run = run_locally(FLOW, sysroot, "--with", "orchestrator_internal", top=top)
    shutil.rmtree(sysroot / ".metaflow" / "LinearFlow" / run / "end")
    return f"LinearFlow/{run}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sensors", type=int, default=500)
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    sysroot = HOME / "runs"
    sysroot.mkdir()
    pathspec = unfinished(sysroot)
    found: dict[str, Any] = {"before": before(pathspec, sysroot, options)}
    files = json.dumps({"conn_type": "metaflow", "extra": {"datastore_root": str(sysroot / ".metaflow")}})
    with environment_variable("METAFLOW_DEFAULT_METADATA", "local"), environment_variable("AIRFLOW_CONN_BENCH", files):
        found["local files"] = asyncio.run(
            measure("bench", ({"op": "run", "pathspec": pathspec}, artifact(f"{pathspec}/start")), options)
        )
    with service() as url:
        more = {"METAFLOW_SERVICE_URL": url, "METAFLOW_SERVICE_AUTH_KEY": "key"}
        os.environ.update(more)
        run = run_locally(FLOW, sysroot, "--with", "orchestrator_internal", top=("--metadata", "service"))
        for name in more:
            del os.environ[name]
        extra = {"datastore_root": str(sysroot / ".metaflow")}
        asked = json.dumps({"conn_type": "metaflow", "host": url, "password": "key", "extra": extra})
        with environment_variable("AIRFLOW_CONN_BENCH", asked):
            # The run has ended, so that its end would be no waiting.
            asked_of = artifact(f"LinearFlow/{run}"), artifact(f"LinearFlow/{run}/start")
            found["metadata service"] = asyncio.run(measure("bench", asked_of, options))
    POOL.close()
    report = {
        "command": "python benchmarks/sensors.py",
        "sensors": options.sensors,
        "interval_seconds": options.interval,
        "sides": found,
        "ratio": {name: round(found[name]["cores"] / found["before"]["cores"], 4) for name in list(found)[1:]},
    }
    print(json.dumps(report, indent=1))
    Path(__file__).with_name("results").joinpath("sensors.json").write_text(json.dumps(report, indent=1) + "\n")
    shutil.rmtree(HOME, ignore_errors=True)


if __name__ == "__main__":
    main()
