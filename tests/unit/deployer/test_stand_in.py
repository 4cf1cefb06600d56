"""What is found on a server becomes a flow file, and must bring no code along."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from metaflow.exception import MetaflowException

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.stand_in import stand_in

FACTS: dict[str, Any] = {
    "python_var_name": "alpha",
    "name": "alpha",
    "type": "int",
    "description": "plain",
    "is_required": False,
}


def source(parameters: dict[str, dict[str, Any]], **changed: Any) -> str:
    given = {"flow": "Flow", "owner": "ann", "project": None, "branch": None, "metadata": "local@/tmp", **changed}
    made = stand_in("sfn", "Flow", parameters=parameters, **given)
    return Path(made.flow_file).read_text()


def test_any_description_stays_a_text() -> None:
    help_text = "it's '''quoted''' \\ and \"so\"\nover two lines ''' + exit() + '''"
    tree = ast.parse(source({"alpha": {**FACTS, "description": help_text}}))
    (told,) = [node.value.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"]
    assert told == help_text


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("python_var_name", "a = exit(); b"),
        ("name", "a', default=exit(), help='"),
        ("type", "exit()"),
        ("encoding", "x', y=exit(), z='"),
    ],
)
def test_a_fact_that_is_no_word_is_refused(fact: str, value: str) -> None:
    with pytest.raises(MetaflowException, match="is damaged"):
        source({"alpha": {**FACTS, "type": "FilePath", fact: value}})


@pytest.mark.parametrize("changed", [{"flow": "Flow:\n    exit()\nclass F"}, {"project": "p')\nexit()\n#"}])
def test_a_name_that_is_no_word_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(MetaflowException, match="is damaged"):
        source({}, **changed)


@pytest.mark.parametrize(
    ("branch", "options"),
    [
        ("prod", {"production": True}),
        ("prod.v2", {"production": True, "branch": "v2"}),
        ("test.try", {"branch": "try"}),
        ("user.ann", {}),
        (None, {}),
    ],
)
def test_a_branch_is_found_again_by_its_options(branch: str | None, options: dict[str, Any]) -> None:
    made = stand_in(
        "sfn", "name", flow="Flow", owner="ann", parameters={}, project="p", branch=branch, metadata="local@/tmp"
    )
    known = ("production", "branch")
    assert {key: value for key, value in made.top_level_kwargs.items() if key in known} == options
    assert (made.name, made.flow_name) == ("name", "Flow")
