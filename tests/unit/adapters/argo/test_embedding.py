"""A flow as a part of a user's own workflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hera.workflows import DAG, Container, Workflow

from metaflow_adapters.argo import compile_flow, embed_flow, flow_task
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError


def test_a_workflow_holds_a_flow_twice_beside_its_own_tasks(on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3("switch")
    with Workflow(generate_name="mine-", entrypoint="main") as workflow:
        own = Container(name="own", image="busybox")
        with DAG(name="main"):
            first = own(name="first")
            one = flow_task(manifest, "one", parameters={"route": "short"})
            two = flow_task(manifest, "two", run="{{workflow.name}}")
            first >> one >> two
    spec = workflow.to_dict()["spec"]
    names = [template["name"] for template in spec["templates"]]
    assert len(names) == len(set(names))
    assert {"main", "own", "one", "two", "one-start", "two-start"} <= set(names)
    main = next(template for template in spec["templates"] if template["name"] == "main")
    assert [task["name"] for task in main["dag"]["tasks"]] == ["first", "one", "two"]
    assert main["dag"]["tasks"][1]["arguments"]["parameters"] == [{"name": "route", "value": "short"}]
    entry = next(template for template in spec["templates"] if template["name"] == "one")
    assert {"name": "place", "value": "one@"} in entry["inputs"]["parameters"]


def test_compiling_inside_of_a_users_workflow_adds_nothing_to_it(on_s3: Callable[..., Manifest]) -> None:
    with Workflow(generate_name="mine-", entrypoint="main") as workflow:
        compile_flow(on_s3("linear"))
    assert workflow.templates == []


def test_an_unknown_parameter_and_a_place_outside_of_a_workflow_are_refused(on_s3: Callable[..., Manifest]) -> None:
    with pytest.raises(InvalidOptionError, match="no parameter 'beta'"):
        embed_flow(on_s3("switch"), "one").task(parameters={"beta": 1})
    with pytest.raises(InvalidOptionError, match="outside of a `with Workflow"):
        flow_task(on_s3("switch"), "one")
