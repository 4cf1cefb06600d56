"""Documents that cross processes are read by any thread."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metaflow_orchestration.documents.manifest import Manifest, encode_manifest

ROOT = Path(__file__).parents[3]

READ_BY_THREADS = """
import sys, threading
from pathlib import Path
from metaflow_orchestration.documents.manifest import decode_manifest

sys.setswitchinterval(1e-6)
data, start = Path(sys.argv[1]).read_bytes(), threading.Barrier(16)

def read():
    start.wait()
    print(decode_manifest(data, "it").graph.name)

threads = [threading.Thread(target=read) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.subprocess
def test_threads_that_read_the_first_manifest_of_a_process_at_once_do_not_crash_it(
    recorded: Callable[[str], Manifest], tmp_path: Path
) -> None:
    """One in five ended with a segmentation fault: `airflow create` in a folder of deployments, now and then."""
    file = tmp_path / "it.metaflow.json"
    file.write_bytes(encode_manifest(recorded("nested_foreach")))
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", READ_BY_THREADS, str(file)], capture_output=True, text=True)
        assert (done.returncode, done.stdout.count("NestedForeachFlow")) == (0, 16), done.stderr


# A worker's process is asked with the class of its answer.
READING = ("msgspec.convert", "self._ask", "self._call")


def test_each_document_that_is_read_is_built_with_its_class() -> None:
    read, built = set(), set()
    for file in [*ROOT.glob("provider/**/*.py"), *ROOT.glob("adapters/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "msgspec.json.decode":
                read |= {ast.unparse(one.value) for one in node.keywords if one.arg == "type"}
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in READING:
                read |= {ast.unparse(one) for one in node.args[1:2]}
            elif isinstance(node, ast.ClassDef) and "built" in map(ast.unparse, node.decorator_list):
                built.add(node.name)
    assert {"Manifest", "DeploymentRecord", "RemoteSettings", "RunAnswer", "DoneAnswer"} <= read
    assert {name for name in read if name.isidentifier() and name[0].isupper()} <= built
