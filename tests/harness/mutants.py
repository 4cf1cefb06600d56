"""`make mutants`: the share of small faults in planners, emitters and adapters that the quick layer's tests notice.

The mutations are those of cosmic-ray. Each is applied in a copy of the repository, and the tests of its module run
there in a forked child that has all libraries imported, until one fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/mutants.json"
LIMIT_SECONDS = 900

PROVIDER, ADAPTERS = "provider/airflow_provider_metaflow", "adapters/metaflow_adapters"
CORE = "provider/metaflow_orchestration"
_GRAPHS = "tests/unit/test_random_graphs.py"
TESTS: list[tuple[str, list[str]]] = [
    (
        f"{ADAPTERS}/argo/**/*.py",
        ["tests/unit/adapters/argo", "tests/security/test_argo_references.py", _GRAPHS],
    ),
    (f"{ADAPTERS}/step_functions/**/*.py", ["tests/unit/adapters/step_functions", _GRAPHS]),
    (f"{ADAPTERS}/*.py", ["tests/unit/adapters"]),
    (f"{PROVIDER}/plan/dag.py", ["tests/unit/plan", "tests/unit/dag", _GRAPHS]),
    (f"{PROVIDER}/dag/emit.py", ["tests/unit/dag", _GRAPHS]),
    (f"{PROVIDER}/plan/events.py", ["tests/unit/plan", "tests/unit/adapters/argo"]),
    (f"{PROVIDER}/plan/parameters.py", ["tests/unit/plan", "tests/unit/dag"]),
    (f"{PROVIDER}/plan/translator.py", ["tests/unit/plan", "tests/unit/dag"]),
    (
        f"{CORE}/graph/schedule.py",
        ["tests/unit/graph", "tests/unit/dag", "tests/unit/adapters/argo/objects/test_schedule.py"],
    ),
    (f"{CORE}/graph/*.py", ["tests/unit/graph", "tests/unit/plan", "tests/unit/run/test_inputs.py", _GRAPHS]),
]
"""The modules that are mutated, and the tests of the quick layer that run for each, the quickest first."""

_KINDS = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add",
    "ReplaceBinaryOperator_Sub",
    "ReplaceBinaryOperator_Mul",
    "ReplaceBinaryOperator_Div",
    "ReplaceBinaryOperator_FloorDiv",
    "ReplaceBinaryOperator_Mod",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator",
    "ZeroIterationForLoop",
)
"""Not `|`, which in our modules stands nearly always in a type, and not decorators, most of which concern types."""

_LIBRARIES = (
    "airflow.sdk", "airflow.serialization.serialized_objects", "boto3", "hera.workflows", "hypothesis", "kubernetes",
    "metaflow", "moto", "msgspec", "pytest", "yaml",
)  # fmt: skip
_OURS = (
    "airflow_provider_metaflow",
    "metaflow_adapters",
    "metaflow_extensions.airflow_provider_metaflow",
    "metaflow_orchestration",
    "tests",
)


@dataclass(frozen=True)
class Mutant:
    """One fault.

    :param path: the module, below the repository.
    :param operator: kind of mutation, of cosmic-ray.
    :param occurrence: which of those that the module has.
    :param tests: the tests that run.
    """

    path: str
    operator: str
    occurrence: int
    tests: tuple[str, ...]

    def source(self) -> str:
        """Return the module with the fault."""
        from cosmic_ray import plugins
        from cosmic_ray.mutating import mutate_code

        operator = plugins.get_operator(self.operator)()
        text = mutate_code((ROOT / self.path).read_text(), operator, self.occurrence)
        assert text is not None
        return str(text)

    def lines(self) -> list[str]:
        """Return the lines that it changes, before and after."""
        before, after = (ROOT / self.path).read_text().splitlines(), self.source().splitlines()
        pairs = zip(before, after, strict=False)
        number, (old, new) = next((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1])
        return [f"{self.path}:{number} {self.operator}", f"  - {old.strip()}", f"  + {new.strip()}"]


def all_mutants(only: str = "") -> Iterator[Mutant]:
    """Yield every mutant there is.

    :param only: part of a path.
    """
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    names = [one for one in plugins.operator_names() if one.partition("/")[2].startswith(_KINDS)]
    operators = {name: plugins.get_operator(name)() for name in names}
    seen: set[Path] = set()
    for pattern, tests in TESTS:
        for file in sorted(ROOT.glob(pattern)):
            path = str(file.relative_to(ROOT))
            # What mirrors the module comes first: it is the quickest to notice.
            found = [path for one in tests for path in sorted((ROOT / one).rglob(f"test_{file.name}"))]
            mirrored = [str(path.relative_to(ROOT)) for path in found]
            if file in seen or only not in path:
                continue
            seen.add(file)
            nodes = list(ast_nodes(get_ast(file.read_text())))
            for name, operator in operators.items():
                at = [node for node in nodes for _ in operator.mutation_positions(node)]
                for number, node in enumerate(at):
                    if not changes_nothing(name, node):
                        yield Mutant(path, name, number, (*mirrored, *tests))


_SAME = ("ReplaceComparisonOperator_" + kind for kind in ("Eq_Is", "Is_Eq", "NotEq_IsNot", "IsNot_NotEq"))
_SAME_COMPARISONS = tuple(f"core/{one}" for one in _SAME)


def changes_nothing(operator: str, node: Any) -> bool:
    """Return whether a mutant is no fault that a test could notice.

    Comparisons of members of an enumeration, and of True, False and None, which are the same by identity and by value;
    a `*` in a list of parameters, where it says how they may be given; `frozen=True` and the like of a data class,
    which the type checker sees to.

    :param operator: its name, of cosmic-ray.
    :param node: what it changes, of parso.
    """
    if operator in _SAME_COMPARISONS:
        return True
    if operator.startswith("core/ReplaceBinaryOperator"):
        return node.parent.type not in ("term", "arith_expr", "power")
    if operator.startswith(("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue")):
        around = node.parent
        while around is not None and around.type in ("argument", "arglist", "trailer", "atom_expr"):
            around = around.parent
        return around is not None and around.type in ("decorator", "classdef")
    return False


def warm() -> None:
    """Import the libraries, and nothing of ours, which each child has from the copy."""
    sys.path[:] = [one for one in sys.path if Path(one or ".").resolve() != ROOT]
    for name in _LIBRARIES:
        __import__(name)
    for name in [one for one in sys.modules if one.partition(".")[0] in _OURS or one.startswith(_OURS)]:
        if name != "__main__":
            del sys.modules[name]


def tested(copy: Path, mutant: Mutant) -> str:
    """Run the tests of a mutant in a forked child; return `killed`, `survived` or `timeout`.

    :param copy: copy of the repository.
    :param mutant: the fault.
    """
    file = copy / mutant.path
    original = file.read_bytes()
    file.write_text(mutant.source())
    try:
        return _ended(_started(copy, mutant.tests))
    finally:
        file.write_bytes(original)


def _started(copy: Path, tests: tuple[str, ...]) -> int:
    child = os.fork()
    if not child:
        _run_tests(copy, tests)
    return child


def _run_tests(copy: Path, tests: tuple[str, ...]) -> None:
    code = 3
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.chdir(copy)
        sys.dont_write_bytecode = True
        import pytest

        chosen = ["-m", "not subprocess", "--deselect", f"{_GRAPHS}::test_there_are_enough_graphs_of_every_kind"]
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen, *tests]))
    finally:
        os._exit(code)


def _ended(child: int) -> str:
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _copy(folder: Path) -> Path:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def main() -> int:
    """Test a random sample of mutants, and keep the share that was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=None, help="which sample; a random one by default")
    parser.add_argument("--only", default="", help="only modules with this in their path")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so long, with those that are tested")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    there = list(all_mutants(options.only))
    sample = random.Random(seed).sample(there, min(options.n, len(there)))
    print(f"{len(sample)} of {len(there)} mutants, seed {seed}", flush=True)
    warm()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = _copy(Path(folder))
        # A failure without a fault would count each mutant as killed.
        needed = tuple(dict.fromkeys(test for one in sample for test in one.tests))
        if _ended(_started(copy, needed)) != "survived":
            print(f"The tests fail without a mutant: {' '.join(needed)}", file=sys.stderr)
            return 2
        outcomes = _test_all(copy, sample, options.minutes)
    return _report(seed, len(there), outcomes, keep=not options.only)


def _test_all(copy: Path, sample: list[Mutant], minutes: float | None) -> list[tuple[Mutant, str]]:
    end = time.monotonic() + minutes * 60 if minutes else None
    outcomes = []
    for number, mutant in enumerate(sample, 1):
        if end and time.monotonic() > end:
            break
        began = time.monotonic()
        outcome = tested(copy, mutant)
        outcomes.append((mutant, outcome))
        lines = mutant.lines()
        shown = [f"{number}: {outcome} ({time.monotonic() - began:.0f} s) {lines[0]}"]
        print("\n".join([*shown, *(lines[1:] if outcome == "survived" else [])]), flush=True)
    return outcomes


def _report(seed: int, there: int, outcomes: list[tuple[Mutant, str]], *, keep: bool) -> int:
    survived = [mutant for mutant, outcome in outcomes if outcome == "survived"]
    killed = len(outcomes) - len(survived)
    share = killed / len(outcomes) if outcomes else 0.0
    print(f"{killed} of {len(outcomes)} killed: {share:.1%}")
    if keep:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        result: dict[str, Any] = {
            "commit": commit.stdout.strip(),
            "seed": seed,
            "mutants": there,
            "tested": len(outcomes),
            "killed": killed,
            "share": round(share, 3),
            "survived": [{key: one for key, one in asdict(mutant).items() if key != "tests"} for mutant in survived],
        }
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
