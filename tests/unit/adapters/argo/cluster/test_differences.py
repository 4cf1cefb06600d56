"""How an object on a server differs from one here; `tests/integration/test_argo_server.py` asks a real server."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from metaflow_adapters.argo.cluster.differences import difference

HERE: dict[str, Any] = {
    "metadata": {"name": "a"},
    "spec": {
        "podMetadata": {"labels": {"part-of": "metaflow"}},
        "arguments": {"parameters": [{"name": "text", "value": ""}]},
        "templates": [
            {
                "name": "start",
                "container": {"resources": {"requests": {"cpu": "0.2", "memory": "100M"}}},
                "nodeSelector": {"limits": "none"},
            }
        ],
    },
}


def on_server() -> dict[str, Any]:
    there = deepcopy(HERE)
    (template,) = there["spec"]["templates"]
    template.update(inputs={}, outputs={}, metadata={"labels": {"part-of": "metaflow"}})
    template["container"].update(name="", resources={"requests": {"memory": "100M", "cpu": "200m"}})
    return there


def test_what_a_server_adds_of_itself_is_no_difference() -> None:
    assert difference("WorkflowTemplate a", on_server(), HERE) == ""


def test_a_change_is_shown_and_nothing_else() -> None:
    changed = deepcopy(HERE)
    changed["spec"]["templates"][0]["container"]["resources"]["requests"]["cpu"] = "300m"
    lines = difference("WorkflowTemplate a", on_server(), changed).splitlines()
    assert lines[:2] == ["--- WorkflowTemplate a on the server", "+++ WorkflowTemplate a here"]
    assert [line.split() for line in lines[2:] if line[0] in "+-"] == [["-", "cpu:", "'0.2'"], ["+", "cpu:", "'0.3'"]]


def test_an_empty_value_of_a_parameter_is_not_a_missing_one() -> None:
    changed = deepcopy(HERE)
    del changed["spec"]["arguments"]["parameters"][0]["value"]
    assert "value: ''" in difference("WorkflowTemplate a", HERE, changed)


def test_what_is_not_on_the_server_differs_as_a_whole() -> None:
    lines = difference("WorkflowTemplate a", None, HERE).splitlines()
    assert not [line for line in lines[2:] if line.startswith("-")]
    assert "+    name: start" in lines
