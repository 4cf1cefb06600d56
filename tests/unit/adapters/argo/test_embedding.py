"""A flow as a part of a user's own workflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hera.workflows import DAG, Container, Parameter, Workflow

from metaflow_adapters.argo import compile_flow, embed_flow, flow_task
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError

from .test_compile import readable


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


def test_a_task_after_a_flow_gets_the_pathspec_of_its_run(on_s3: Callable[..., Manifest]) -> None:
    with Workflow(generate_name="mine-", entrypoint="main") as workflow:
        own = Container(name="own", image="busybox", inputs=[Parameter(name="run")])
        with DAG(name="main"):
            # A flow whose steps have other names than usual, and one of a single step.
            for shape in ("custom_names", "single_step"):
                flow = flow_task(on_s3(shape), shape.replace("_", "-"))
                flow >> own(name=f"after-{flow.name}", arguments=[flow.get_parameter("pathspec").with_name("run")])
    templates = {one["name"]: one for one in workflow.to_dict()["spec"]["templates"]}
    for shape in ("custom_names", "single_step"):
        name, graph = shape.replace("_", "-"), on_s3(shape).graph
        (after,) = [task for task in templates["main"]["dag"]["tasks"] if task["name"] == f"after-{name}"]
        wanted = f"{{{{tasks.{name}.outputs.parameters.pathspec}}}}"
        assert after["arguments"]["parameters"] == [{"name": "run", "value": wanted}]
        (output,) = templates[name]["outputs"]["parameters"]
        (last,) = [task for task in templates[name]["dag"]["tasks"] if task["template"] == f"{name}-{graph.end}"]
        source = f"{{{{tasks.{last['name']}.outputs.parameters.pathspec}}}}"
        assert output == {"name": "pathspec", "valueFrom": {"parameter": source}}
        (written,) = templates[f"{name}-{graph.end}"]["outputs"]["parameters"]
        document = readable(templates[f"{name}-{graph.end}"]["container"]["env"])
        (task,) = [one["value"] for one in document if one["name"] == "METAFLOW_ORCHESTRATOR_TASK"]
        assert task["outputs"] == {"pathspec": written["valueFrom"]["path"]}


def test_a_deployed_flow_writes_no_output_that_nobody_reads(on_s3: Callable[..., Manifest]) -> None:
    templates = {one["name"]: one for one in compile_flow(on_s3("linear")).to_dicts()[0]["spec"]["templates"]}
    assert "outputs" not in templates["end"]


def test_compiling_inside_of_a_users_workflow_adds_nothing_to_it(on_s3: Callable[..., Manifest]) -> None:
    with Workflow(generate_name="mine-", entrypoint="main") as workflow:
        compile_flow(on_s3("linear"))
    assert workflow.templates == []


def test_an_unknown_parameter_and_a_place_outside_of_a_workflow_are_refused(on_s3: Callable[..., Manifest]) -> None:
    with pytest.raises(InvalidOptionError, match="no parameter 'beta'"):
        embed_flow(on_s3("switch"), "one").task(parameters={"beta": 1})
    with pytest.raises(InvalidOptionError, match="outside of a `with Workflow"):
        flow_task(on_s3("switch"), "one")
