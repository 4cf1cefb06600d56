"""What a DAG says of its flow to the people who open it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from airflow_provider_metaflow.dag.documentation import dag_documentation
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import Parameter, ParameterType


@pytest.fixture
def triggered(recorded: Callable[[str], Manifest]) -> Manifest:
    return recorded("decorated/triggered")


def with_version(manifest: Manifest, **known: object) -> Manifest:
    environment = {**manifest.command.environment, "METAFLOW_VERSION": json.dumps(known)}
    return replace(manifest, command=replace(manifest.command, environment=environment))


def with_parameter(manifest: Manifest, **fields: object) -> Manifest:
    one = Parameter(**{"name": "p", "variable": "p", "type": ParameterType.STR, **fields})
    return replace(manifest, graph=replace(manifest.graph, parameters=(one,)))


def test_a_dag_says_what_it_does_its_parameters_its_owner_and_its_code(triggered: Manifest) -> None:
    text = dag_documentation(with_version(triggered, metaflow_version="2.19.1"))
    assert text.splitlines() == [
        "### TriggeredFlow",
        "",
        "Waits for two events, whose payloads it takes for its parameters.",
        "",
        "| Parameter | Type | Default | Meaning |",
        "|---|---|---|---|",
        "| `day` | str | required, unless filled by the field date of the event data.ready |  |",
        "| `exact` | bool | `False` |  |",
        "| `model` | str | `linear` |  |",
        "",
        "- **Owner**: ann",
        "- **Project**: market, branch test.testing",
        "- **Starts on the events**: `data.ready`, `model.ready`",
        "- **Code**: `triggered.py`, packaged by Metaflow 2.19.1",
    ]
    assert triggered.code.sha not in text


def test_the_commit_of_the_deployment_is_the_version_of_its_code(triggered: Manifest) -> None:
    known = {"commit_sha": "0123456789abcdef", "branch_name": "main", "has_uncommitted_changes": True}
    text = dag_documentation(with_version(triggered, **known))
    assert "- **Code**: `triggered.py`, Git commit `0123456789` of branch `main` with uncommitted changes" in text
    clean = dag_documentation(with_version(triggered, **known | {"has_uncommitted_changes": False}))
    assert "uncommitted" not in clean


@pytest.mark.parametrize("version", ["", "[]", "nonsense"])
def test_a_manifest_without_an_environment_names_its_flow_file(triggered: Manifest, version: str) -> None:
    environment = {**triggered.command.environment, "METAFLOW_VERSION": version}
    text = dag_documentation(replace(triggered, command=replace(triggered.command, environment=environment)))
    assert text.endswith("- **Code**: `triggered.py`")


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"help": "one | two\n\n# three"}, "| `p` | str | none | one \\| two # three |"),
        ({"help": "<b>*x*</b>"}, "| `p` | str | none | \\<b\\>\\*x\\*\\</b\\> |"),
        ({"default": "a`b|c"}, "| `p` | str | ``a`b\\|c`` |  |"),
        ({"default": "`"}, "| `p` | str | `` ` `` |  |"),
        ({"default": ""}, "| `p` | str | empty |  |"),
        ({"default": "x" * 99}, f"| `p` | str | `{'x' * 60}…` |  |"),
        ({"default": "secret text", "type": ParameterType.FILE}, "| `p` | file | a file |  |"),
    ],
)
def test_a_parameter_is_one_row_of_the_table_whatever_it_says(
    triggered: Manifest, fields: dict[str, object], row: str
) -> None:
    assert row in dag_documentation(with_parameter(triggered, **fields)).splitlines()
