"""Labels and annotations: legal ones for every name, and those of Metaflow's own deployer."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.interpreter import python
from tests.unit.adapters.argo.test_compile import SHAPES, readable, templates_of

from metaflow_adapters.argo import compile_flow
from metaflow_adapters.argo.objects.metadata import graph_structure
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import StepKind

LEGAL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
"""Values of labels, which have 63 characters at most (Kubernetes' `IsValidLabelValue`)."""

LONG = "a_very_long_step_name_that_tells_everything_about_what_it_does_and_more"


def renamed(manifest: Manifest, names: dict[str, str]) -> Manifest:
    """The flow with other names of its steps."""
    text = msgspec.json.encode(manifest.graph).decode()
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return msgspec.structs.replace(manifest, graph=msgspec.json.decode(text, type=type(manifest.graph)))


def pods(document: Any) -> list[dict[str, Any]]:
    """All metadata with a step, of templates and of the jobs that they make."""
    if isinstance(document, list):
        return [one for part in document for one in pods(part)]
    if not isinstance(document, dict):
        return []
    own = [document] if "metaflow/step" in document.get("labels", {}) else []
    return own + [one for part in document.values() for one in pods(part)]


@pytest.mark.parametrize("gang", ["job", "jobset"])
@pytest.mark.parametrize("name", ["import_", LONG, f"{LONG}_", "x"])
def test_labels_are_legal_for_every_name_of_a_step_which_stands_in_an_annotation(
    name: str, gang: str, on_s3: Callable[..., Manifest]
) -> None:
    made = compile_flow(renamed(on_s3("parallel"), {"train": name}), gang=gang)
    found = pods(readable(made.to_dicts()))
    for one in found:
        assert all(LEGAL.fullmatch(value) and len(value) <= 63 for value in one["labels"].values() if "{{" not in value)
        assert one["annotations"]["metaflow/attempt"] == "0"
    # The pods of the gang, and that which waits for them.
    assert [one["annotations"]["metaflow/step_name"] for one in found].count(name) == 2
    labels = {one["annotations"]["metaflow/step_name"]: one["labels"]["metaflow/step"] for one in found}
    assert len(set(labels.values())) == len(labels)


def test_the_attempt_of_a_pod_is_argos_count_where_it_counts(on_s3: Callable[..., Manifest]) -> None:
    templates = templates_of(compile_flow(on_s3("decorated/careful")))
    tried = {
        one["metadata"]["annotations"]["metaflow/attempt"]: "retryStrategy" in one
        for one in templates.values()
        if "metaflow/step" in one.get("metadata", {}).get("labels", {})
    }
    assert tried == {"0": False, "{{retries}}": True}


STRUCTURES = """
import importlib.util, inspect, json, sys
from metaflow import FlowSpec
for file in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("flow", file)
    module = sys.modules["flow"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, FlowSpec)]
    (kind,) = [one for one in kinds if one is not FlowSpec]
    print(json.dumps(kind._graph.output_steps()[1]))
"""


@pytest.mark.subprocess
def test_the_structure_of_a_graph_is_what_metaflow_writes(on_s3: Callable[..., Manifest], flows: Path) -> None:
    files = [str(flows / f"{shape}.py") for shape in SHAPES]
    done = subprocess.run([python(), "-c", STRUCTURES, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = dict(zip(SHAPES, map(json.loads, done.stdout.splitlines()), strict=True))
    assert {shape: graph_structure(on_s3(shape).graph) for shape in SHAPES} == written


def test_a_graph_with_too_many_ways_has_no_annotation(on_s3: Callable[..., Manifest]) -> None:
    graph = on_s3("switch").graph
    steps = {step.name: step for step in graph.steps}
    switch = next(step for step in graph.steps if step.kind is StepKind.SWITCH)
    replace = msgspec.structs.replace
    chain = []
    for number in range(20):
        following = f"s{number + 1}" if number < 19 else "end"
        chain.append(replace(switch, name=f"s{number}", next_steps=(f"l{number}", f"r{number}"), parents=()))
        linear = replace(steps["end"], kind=StepKind.LINEAR, next_steps=(following,))
        chain += [replace(linear, name=f"{side}{number}") for side in "lr"]
    start = replace(switch, name="s0", next_steps=("l0", "r0"))
    wide = replace(graph, steps=(start, *chain[1:], steps["end"]), start="s0")
    assert graph_structure(wide) is None
