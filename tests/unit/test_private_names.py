"""What of Airflow is private stands in one place, and is missed with a message where a release lacks it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_metaflow import _compat

PROVIDER = Path(_compat.__file__).parent


def private_imports(source: str) -> Iterator[str]:
    """Yield the imports from Airflow of which a part is private."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow":
            yield from (
                f"{node.module}.{one.name}"
                for one in node.names
                if any(part.startswith("_") for part in [*str(node.module).split("."), one.name])
                or one.name == "SUPERVISOR_COMMS"
            )


def test_private_names_of_airflow_are_imported_in_one_module_only() -> None:
    found = {
        (path.relative_to(PROVIDER).as_posix(), name)
        for path in PROVIDER.rglob("*.py")
        for name in private_imports(path.read_text())
    }
    assert {file for file, _ in found} == {"_compat.py"}


@pytest.mark.parametrize(
    "source",
    [
        "from airflow.sdk.definitions._internal.contextmanager import DagContext",
        "from airflow.models.dag import _private",
        "def f():\n    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS",
    ],
)
def test_a_private_import_is_seen(source: str) -> None:
    assert list(private_imports(source))
    assert not list(private_imports("from airflow.sdk import DAG"))


def test_a_name_that_a_release_lacks_is_an_error_that_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_compat._MOVED, "Gone", ("airflow.sdk", "airflow.sdk"))
    with pytest.raises(ImportError, match=r"Airflow 3\.\d+\.\d+ has no Gone in airflow\.sdk, which this release"):
        _ = _compat.Gone
    with pytest.raises(AttributeError):
        _ = _compat.Unknown


def test_a_private_method_that_a_provider_lacks_is_an_error_that_says_which() -> None:
    class Operator:
        def _there(self) -> None: ...

    _compat.require_methods(Operator, "_there")
    with pytest.raises(ImportError, match=r"has no Operator\._gone, which this release"):
        _compat.require_methods(Operator, "_there", "_gone")
