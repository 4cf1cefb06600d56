from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_metaflow.plan.parameters import (
    UNSET,
    command_line_values,
    conf_value,
    default_value,
    json_schema,
)
from metaflow_orchestration.exceptions import ParameterValueError
from metaflow_orchestration.graph.model import FlowGraph, Parameter, ParameterType


def graph(**options: Any) -> FlowGraph:
    parameter = Parameter(name="p", variable="p", **options)
    return FlowGraph(name="F", start="s", end="s", steps=(), parameters=(parameter,))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (ParameterType.INT, 3, "3"),
        (ParameterType.INT, "3", "3"),
        (ParameterType.INT, 3.0, "3"),
        (ParameterType.FLOAT, 0.1, "0.1"),
        (ParameterType.FLOAT, 2, "2.0"),
        (ParameterType.BOOL, True, "True"),
        (ParameterType.BOOL, "false", "false"),
        (ParameterType.STR, "{{ $x }} `y`", "{{ $x }} `y`"),
        (ParameterType.STR, "", ""),
        (ParameterType.JSON, {"a": ["ü"]}, '{"a": ["\\u00fc"]}'),
        (ParameterType.JSON, '{"a": 1}', '{"a": 1}'),
        (ParameterType.JSON, "plain", '"plain"'),
        (ParameterType.INT, 2**53 + 1, "9007199254740993"),
        (ParameterType.INT, "9007199254740993", "9007199254740993"),
        (ParameterType.FLOAT, "inf", "inf"),
        (ParameterType.FLOAT, float("-inf"), "-inf"),
        (ParameterType.FLOAT, float("nan"), "nan"),
    ],
)
def test_a_value_becomes_the_text_that_metaflow_reads(kind: ParameterType, value: Any, text: str) -> None:
    assert command_line_values(graph(type=kind), {"p": value, "other": 1}) == {"p": text}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ParameterType.INT, "many"),
        (ParameterType.INT, 1.5),
        (ParameterType.INT, True),
        (ParameterType.INT, float("inf")),
        (ParameterType.FLOAT, "x"),
        (ParameterType.BOOL, 1),
        (ParameterType.STR, {"a": 1}),
    ],
)
def test_a_value_of_another_type_is_refused(kind: ParameterType, value: Any) -> None:
    with pytest.raises(ParameterValueError, match=rf"flow F: parameter 'p' is of type {kind.value}"):
        command_line_values(graph(type=kind), {"p": value})


def test_none_is_passed_by_leaving_the_option_out() -> None:
    assert command_line_values(graph(type=ParameterType.STR, default="x"), {"p": None}) == {}


def test_a_missing_value_takes_the_default_of_deploy_time() -> None:
    assert command_line_values(graph(type=ParameterType.STR, default="x"), {}) == {"p": "x"}


def test_a_missing_required_value_is_refused() -> None:
    with pytest.raises(ParameterValueError, match="'p' is required but no value was given"):
        command_line_values(graph(type=ParameterType.STR, required=True), {})


def test_a_list_is_joined_by_the_separator() -> None:
    assert command_line_values(graph(type=ParameterType.STR, separator=";"), {"p": ["a", "b"]}) == {"p": "a;b"}


def test_only_a_required_parameter_has_no_default_and_refuses_null() -> None:
    (required,) = graph(type=ParameterType.INT, required=True).parameters
    (optional,) = graph(type=ParameterType.INT, default="4").parameters
    assert default_value(required) is UNSET
    assert json_schema(required)["type"] == "integer"
    assert default_value(optional) == 4
    assert json_schema(optional)["type"] == ["integer", "null"]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (ParameterType.FLOAT, "inf", "inf"),
        (ParameterType.FLOAT, "-inf", "-inf"),
        (ParameterType.FLOAT, "nan", "nan"),
        (ParameterType.FLOAT, "1e400", "inf"),
        (ParameterType.FLOAT, "0.5", 0.5),
        (ParameterType.INT, str(2**53), 2**53),
        (ParameterType.INT, str(2**53 + 1), str(2**53 + 1)),
        (ParameterType.INT, str(-(2**63)), str(-(2**63))),
        (ParameterType.JSON, '{"a": [1, NaN]}', '{"a": [1, NaN]}'),
        (ParameterType.JSON, '{"a": [9007199254740993]}', '{"a": [9007199254740993]}'),
        (ParameterType.JSON, '{"a": [1]}', {"a": [1]}),
    ],
)
def test_a_default_that_json_cannot_hold_is_a_text_and_arrives_as_it_is(
    kind: ParameterType, text: str, expected: Any
) -> None:
    parameter = Parameter(name="p", variable="p", type=kind, default=text)
    value = default_value(parameter)
    assert (value, type(value)) == (expected, type(expected))
    # What Airflow's database and a browser make of it.
    json.dumps(value, allow_nan=False)
    types = json_schema(parameter, value)["type"]
    assert ("string" in types) == (isinstance(value, str) or kind is ParameterType.JSON)
    arrived = command_line_values(graph(type=kind, default=text), {"p": value})["p"]
    if kind is ParameterType.JSON:
        assert repr(json.loads(arrived)) == repr(json.loads(text))
    else:
        assert repr(float(arrived)) == repr(float(text))
        assert kind is ParameterType.FLOAT or int(arrived) == int(text)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2**60, {"a": float("nan")}, [2**60]])
def test_what_a_run_is_given_is_json_that_keeps_its_numbers(value: Any) -> None:
    kind = (
        ParameterType.JSON
        if isinstance(value, (dict, list))
        else ParameterType("float" if isinstance(value, float) else "int")
    )
    parameter = Parameter(name="p", variable="p", type=kind)
    sent = conf_value(parameter, value)
    assert isinstance(sent, str)
    assert json.loads(json.dumps(sent, allow_nan=False)) == sent
    text = command_line_values(graph(type=kind), {"p": sent})["p"]
    assert repr(json.loads(text) if isinstance(value, (dict, list)) else type(value)(text)) == repr(value)
