"""The Python of the tests does what a new interpreter does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.interpreter import python
from tests.support.patience import wait_until

pytestmark = pytest.mark.subprocess

MODULE = "import sys\nprint(__name__, __file__, sys.argv, sys.path[0])\n"


def run(program: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, input="a line\n", env={**os.environ, **environment}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import sys; print(sys.argv, __name__, sys.path[0]); sys.exit(3)", "a b", "-x"),
        ("-c", "import sys; sys.exit('a message')"),
        ("-c", "print(input()); import os; os.kill(os.getpid(), 9)"),
        ("-c", "import atexit; atexit.register(print, 'at the end'); print('before', end='')"),
        ("-m", "platform"),
        ("-S", "-c", "import sys; print(sys.flags.no_site)"),
    ],
)
def test_status_output_and_arguments_are_those_of_a_new_interpreter(arguments: tuple[str, ...]) -> None:
    assert run(python(), *arguments) == run(sys.executable, *arguments)


def test_a_program_is_the_main_module_with_its_folder_on_the_path(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MODULE)
    assert run(python(), str(program), "x") == run(sys.executable, str(program), "x")


def test_an_error_of_the_program_is_told_and_is_its_status() -> None:
    status, _, told = run(python(), "-c", "raise ValueError('on purpose')")
    assert status == 1
    assert told.endswith("ValueError: on purpose\n")


def test_each_call_has_its_own_settings_and_sees_nothing_of_another() -> None:
    script = (
        "import metaflow; from metaflow.metaflow_config import DATASTORE_SYSROOT_LOCAL as root; "
        "print(root, hasattr(metaflow, 'mark')); metaflow.mark = 1"
    )
    for root in ("/one", "/two", "/one"):
        assert run(python(), "-c", script, METAFLOW_DATASTORE_SYSROOT_LOCAL=root)[1] == f"{root} False\n"


def test_a_variable_of_the_interpreter_itself_is_honoured() -> None:
    script = "print(hash('x'))"
    seeded = {"PYTHONHASHSEED": "7"}
    assert run(python(), "-c", script, **seeded) == run(sys.executable, "-c", script, **seeded)


def test_a_program_ends_when_its_client_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid()) + ' '); time.sleep(1000)"
    client = subprocess.Popen([python(), "-c", script])
    wait_until(lambda: file.exists() and file.read_text().endswith(" "), pause=0.05)
    pid = file.read_text().strip()
    client.kill()
    client.wait()
    wait_until(lambda: not Path("/proc", pid).exists(), timeout=10, pause=0.05)
