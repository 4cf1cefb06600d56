"""What a task has failed with is found in its output, as Python and Metaflow write it."""

from __future__ import annotations

import pytest

from airflow_provider_metaflow.compute.error_text import ErrorText

METAFLOW = """\
<flow LinearFlow step start> failed:
    Internal error
    Traceback (most recent call last):
      File "/x/task.py", line 1, in run_step
        step_function()
      File "/x/linear.py", line 9, in start
        raise ValueError("asked to crash")
    ValueError: asked to crash

"""

CHAINED = """\
Traceback (most recent call last):
  File "x.py", line 1, in <module>
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "x.py", line 3, in <module>
module.CustomError: two
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (METAFLOW, "ValueError: asked to crash"),
        (CHAINED, "module.CustomError: two"),
        ("Traceback (most recent call last):\n  File 'x'\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("<flow F step s> failed:\n    Flow failed:\n    There is no such thing.\n", "There is no such thing."),
        ("10%|#\r\nwarning: of no use\n", None),
        ("", None),
    ],
)
def test_the_message_is_that_of_the_last_exception(text: str, message: str | None) -> None:
    found = ErrorText()
    for line in text.splitlines():
        found.feed("stderr", line)
    assert found.message == message


def test_each_line_of_an_error_is_one_and_what_comes_before_is_none() -> None:
    found = ErrorText()
    assert not found.feed("stderr", " 10%|#")
    assert not found.feed("stdout", "Traceback (most recent call last):")
    assert all(found.feed("stderr", line) for line in METAFLOW.splitlines())
    assert found.message == "ValueError: asked to crash"


def test_output_goes_on_as_before_after_a_traceback_that_the_step_has_caught() -> None:
    found = ErrorText()
    lines = ["Traceback (most recent call last):", '  File "x"', "ValueError: x", "going on"]
    assert [found.feed("stderr", line) for line in lines] == [True, True, True, False]
