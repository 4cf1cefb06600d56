"""A flow file that may run one flow or another is refused; files that always run the same one are not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from metaflow_orchestration.compile.reading.flow_file import check_one_flow
from metaflow_orchestration.exceptions import UnsupportedFeatureError

TWO_FLOWS = """
import os
from metaflow import FlowSpec, step

class FirstFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)
    @step
    def end(self): pass

class SecondFlow(FirstFlow):
    pass

"""


def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str) -> None:
    """Check a file of two flows whose first one runs."""
    file = tmp_path / "two_flows.py"
    file.write_text(TWO_FLOWS + main)
    module: Any = ModuleType("two_flows")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "two_flows", module)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    exec(compile(TWO_FLOWS, str(file), "exec"), module.__dict__)
    check_one_flow(module.FirstFlow(use_cli=False), file)


@pytest.mark.parametrize(
    "main",
    [
        "{'a': FirstFlow, 'b': SecondFlow}[os.environ.get('FLOW', 'a')]()",
        "if __name__ == '__main__':\n    {'a': FirstFlow, 'b': SecondFlow}[os.environ.get('FLOW', 'a')]()",
        "if __name__ == '__main__':\n    if os.environ.get('FLOW'):\n        SecondFlow()\n    FirstFlow()",
        "if os.environ.get('FLOW'):\n    SecondFlow()\nFirstFlow()",
        "chosen = FirstFlow\nif __name__ == '__main__':\n    chosen()",
        "def main():\n    (SecondFlow if os.environ.get('FLOW') else FirstFlow)()\nmain()",
    ],
)
def test_code_that_decides_which_flow_runs_is_refused_with_the_names_of_both(
    main: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        checked(tmp_path, monkeypatch, main)
    assert str(caught.value) == (
        "flow FirstFlow: the file two_flows.py holds the flows FirstFlow, SecondFlow, and its code decides which of "
        "them runs; a task could run a step of another flow. Give each flow a file of its own; they may share a module."
    )


@pytest.mark.parametrize(
    "main",
    [
        "FirstFlow()",
        "if __name__ == '__main__':\n    print('begin')\n    FirstFlow()",
        "if '__main__' == __name__: FirstFlow()",
    ],
)
def test_a_file_that_always_runs_the_same_of_its_flows_is_not_refused(
    main: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(tmp_path, monkeypatch, main)
    with pytest.raises(UnsupportedFeatureError):  # the check has seen the file
        checked(tmp_path, monkeypatch, main.replace("FirstFlow()", "SecondFlow()"))
