"""`make test` and `make test-extended`: tools, builds in the background, pytest, coverage, figures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.harness import builds, clusters, extended, figures, measured, pythons, tools

ROOT = Path(__file__).parents[2]
_KUBERNETES = "tests/kubernetes"

CLUSTER_BUILD = [
    [f"{_KUBERNETES}/cluster.sh", "build"],
    [f"{_KUBERNETES}/step_image.sh"],
    [f"{_KUBERNETES}/controllers.sh", "build", "argo-workflows"],
]
EXTENDED_BUILDS = {
    "controllers": [
        [f"{_KUBERNETES}/controllers.sh", "server", "argo-workflows"],
        [f"{_KUBERNETES}/controllers.sh", "build", "argo-events"],
        [f"{_KUBERNETES}/controllers.sh", "build", "jobset"],
    ],
    "object-stores": [["scripts/object_stores.sh"]],
}
_NEEDED_BY = {
    "controllers": ("test_argo_events", "test_argo_gangs", "test_argo_server"),
    "object-stores": ("test_object_stores",),
}
"""Names of test files, for runs of a part: a fixture that builds takes the time of its test."""

_SEQUENCES = {"TEST_RUN_LIVES": "2000"}
"""How many random lives of a run are played; `make quick` plays fewer."""

_PASSED, _FAILED = 0, 1
"""What pytest ends with when all tests of its selection have run."""

_SELECTING = ("-k", "-m", "-x", "--maxfail", "--lf", "--last-failed", "--deselect", "--ignore", "--sw")
"""Options of pytest by which tests of a file are left out."""

_PYTHONS = "other-pythons"
_SHOWN = 25
_SAY_SECONDS = 100
_COLD_SECONDS = 60
"""A build that takes longer had something to build."""


class Run:
    """One run of a layer: what it has done, and how long that took."""

    def __init__(self, layer: str, arguments: Sequence[str]) -> None:
        self.layer = layer
        self.arguments = list(arguments)
        self.kind = clusters.chosen(os.environ, arguments)
        self.problems: list[str] = []
        self.by_file = not [one for one in arguments if one.startswith(_SELECTING) or "::" in one]
        """Whether each file that runs does so with all tests of the layer."""
        self.whole = self.by_file and not [one for one in arguments if one.startswith("tests/")]
        # The floor is that of all tests.
        self.measured = layer == "test" and self.whole
        self.code = 0
        """What pytest ended with."""
        self.seconds: dict[str, float] = {}
        self.figures = figures.Figures()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a part."""
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def needed(self) -> list[tools.Tool]:
        """Return what must be there before the first test."""
        return [*tools.BASE, *clusters.tools(self.kind), *(tools.EXTENDED if self.layer == "extended" else ())]

    def build_steps(self) -> builds.Steps:
        """Return what is built while tests run; of the long builds those alone that the files of a part need."""
        steps: dict[str, Sequence[Sequence[str]]] = {}
        if not self.whole:
            files = " ".join(self.arguments) if self.layer == "extended" else ""
            found = {name for name, needing in _NEEDED_BY.items() if any(file in files for file in needing)}
            return {name: commands for name, commands in EXTENDED_BUILDS.items() if name in found}
        if self.kind == "built":
            steps["cluster"] = CLUSTER_BUILD
        if self.layer == "extended":
            steps.update(EXTENDED_BUILDS)
            command = ["env", "TEST_PYTHONS_WORKERS=0", sys.executable, "-m", "tests.harness.pythons"]
            steps[_PYTHONS] = [command]
        return steps

    def prepare(self) -> None:
        """Look for everything that can stop the run before it takes time.

        :raises ClusterError: if the cluster cannot be had.
        :raises MissingToolsError: if a tool is missing.
        """
        clusters.check_user(self.kind)
        if self.layer == "extended" and self.kind != "built":
            raise clusters.ClusterError("make test-extended needs the built cluster: it loads controllers into it.")
        with self.phase("tools"):
            tools.bring(self.needed())
            if self.kind == "own":
                clusters.check_reachable(os.environ["TEST_KUBECONFIG"])
            subprocess.run(["scripts/second_opinions.sh"], cwd=ROOT, check=True)

    def pytest(self, environment: dict[str, str], folder: Path) -> int:
        """Run the tests of the layer."""
        wanted = "extended" if self.layer == "extended" else "not extended"
        start = measured.command() if self.measured else [sys.executable, "-m"]
        command = [*start, "pytest", "-n", os.environ.get("WORKERS", "2"), "--no-loadscope-reorder"]
        command += ["-m", wanted, *self.arguments]
        if self.kind == "none" and "--without-kubernetes" not in self.arguments:
            command.append("--without-kubernetes")
        report = folder / "figures.json"
        with self.phase("pytest"):
            settings = {**_SEQUENCES, **os.environ, **environment, figures.OUTPUT: str(report)}
            code = self.code = _run_to_its_end(command, settings)
        self.figures = figures.Figures.read(report)
        return code

    def others(self, folder: Path) -> None:
        """Wait for the unit tests on the other Pythons, which run beside the others, and print them.

        `make test` runs them on none: each costs five minutes of both cores, and mypy checks the code for the oldest.
        """
        if self.layer == "test":
            pythons.run_all(())
            return
        with self.phase("wait for other Pythons"):
            passed = builds.ended_well(_PYTHONS, folder)
        print((folder / f"{_PYTHONS}.log").read_text(errors="replace"))
        if not passed:
            self.problems.append("The unit tests fail on another Python, see above.")

    def coverage(self) -> None:
        """Print what the tests reach of the product."""
        with self.phase("coverage"):
            self.problems += measured.report()

    def keep(self, *, code: int) -> None:
        """Print how long things took, and keep it if everything has run and passed."""
        self.seconds["total"] = sum(took for name, took in self.seconds.items() if not name.startswith("build "))
        print("slowest groups:", ", ".join(f"{name} {took:.0f} s" for name, took in self.figures.slowest(_SHOWN)))
        print("; ".join(f"{name}: {took:.0f} s" for name, took in self.seconds.items()))
        if note := clusters.not_run(self.kind):
            print(note)
        if self.kind != "built":
            return
        # What was interrupted or could not be collected is no result.
        if self.layer == "extended" and self.by_file and self.code in (_PASSED, _FAILED):
            extended.record(self.figures, whole=self.whole)
        if self.whole and code == 0:
            cold = self.seconds.get("build cluster", 0) > _COLD_SECONDS
            figures.keep(f"{self.layer} {'cold' if cold else 'warm'}", self.figures, self.seconds)


def _run_to_its_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run pytest; let it say what has failed so far when it and this process are interrupted."""
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait(timeout=_SAY_SECONDS) or 1


def main(arguments: Sequence[str]) -> int:
    """Run a layer, `test` or `extended`, with further arguments of pytest; return the status of the command."""
    layer, *rest = arguments
    try:
        run = Run(layer, rest)
        run.prepare()
    except (clusters.ClusterError, tools.MissingToolsError) as error:
        print(error, file=sys.stderr)
        return 2
    stale = extended.problem() if layer == "test" else None
    if stale:
        run.problems.append(stale)
        print(f"This run will fail: {stale}", file=sys.stderr, flush=True)
    code = _tests(run)
    if run.measured:
        run.coverage()
    run.keep(code=code or len(run.problems))
    if note := extended.note():
        print(note)
    for problem in run.problems:
        print(problem, file=sys.stderr)
    return int(bool(code or run.problems))


def _tests(run: Run) -> int:
    with tempfile.TemporaryDirectory(prefix="metaflow-builds-") as name:
        folder = Path(name)
        try:
            with clusters.started(run.kind) as settings, builds.Builds(folder, run.build_steps()) as building:
                if run.measured:
                    measured.erase()
                code = run.pytest({**settings, builds.FOLDER: name}, folder)
                if run.whole:
                    run.others(folder)
        except clusters.ClusterError as error:
            print(error, file=sys.stderr)
            return 2
        for build, took in building.seconds.items():
            print(f"build of {build}: {took:.0f} s, beside the tests")
            run.seconds[f"build {build}"] = took
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
