"""The names of `metaflow_adapters.argo`, in a process that has used Metaflow's Deployer before."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.subprocess
def test_hera_can_be_imported_after_the_typing_extensions_of_metaflow() -> None:
    """As in a notebook that has imported pydantic, and deployed something: a TypeError in the midst of Hera."""
    script = (
        "import typing_extensions\n"
        "import metaflow.runner.click_api\n"
        "import metaflow._vendor.typing_extensions\n"
        "from metaflow_adapters.argo import compile_flow\n"
        "print(compile_flow.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "compile_flow\n", done.stderr
