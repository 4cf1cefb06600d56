"""User text reaches an expression as a literal only."""

from __future__ import annotations

import random
import string

import jsonata
import pytest

from metaflow_adapters.step_functions.language.jsonata import evaluated, literal, quoted, text

_LOT = random.Random(20)
_ALPHABET = string.printable + "'\"\\{}%$&`~^äß€🎉\u2028\x00\x7f\ud7ff"
FUZZED = ["".join(_LOT.choices(_ALPHABET, k=_LOT.randint(0, 40))) for _ in range(300)]
NASTY = ["", "'", "\\", "' & $states.input & '", '"', "{% 1 %}", "/* */", "\\u0041", "`x`", "$", "a'b\"c\\d"]


@pytest.mark.parametrize("value", [*NASTY, *FUZZED], ids=range(len(NASTY) + len(FUZZED)))
def test_any_text_is_itself_as_a_literal(value: str) -> None:
    for made in (text(value), quoted(value)):
        assert jsonata.Jsonata(made).evaluate(None) == value


def test_a_text_that_looks_like_an_expression_stays_a_text() -> None:
    assert literal("plain") == "plain"
    made = literal("{% $states.input %}")
    assert jsonata.Jsonata(made[2:-2]).evaluate(None) == "{% $states.input %}"


def test_numbers_and_lists_are_literals_too() -> None:
    value = {"a": [1, 2.5, None, True, {"b": "'"}]}
    assert jsonata.Jsonata(quoted(value)).evaluate(None) == value
    assert evaluated("1") == "{% 1 %}"
