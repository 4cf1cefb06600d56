"""Whether a flow file always runs the same flow. Imports Metaflow."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from metaflow_orchestration.exceptions import UnsupportedFeatureError


def check_one_flow(flow: Any, flow_file: Path) -> None:
    """Refuse a file with several flows if code decides which of them runs.

    Each task starts the file again, in another environment than that of ``create`` (another worker, a container), so
    that another flow of the file could run its steps. Metaflow's ``Runner`` and ``Deployer`` refuse every file with
    several flows (``metaflow.runner.click_api.extract_flow_class_from_file``).

    :param flow: the flow that runs now.
    :param flow_file: its file.
    :raises UnsupportedFeatureError: naming the flows of the file.
    """
    flows = _flows_of_file(flow, flow_file)
    if len(flows) == 1:
        return
    try:
        tree = ast.parse(flow_file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # it runs now, so its text was changed in between
        return
    always = [call for call in _called(_unconditional(tree)) if call in flows]
    anywhere = [call for call in _called(ast.walk(tree)) if call in flows]
    if always == anywhere == [type(flow).__name__]:
        return
    raise UnsupportedFeatureError(
        f"the file {flow_file.name} holds the flows {', '.join(flows)}, and its code decides which of them runs; a "
        "task could run a step of another flow.",
        flow=type(flow).__name__,
        hint="Give each flow a file of its own; they may share a module.",
    )


def _flows_of_file(flow: Any, flow_file: Path) -> list[str]:
    from metaflow import FlowSpec

    module: Any = sys.modules.get("__main__")
    if Path(getattr(module, "__file__", None) or "").resolve() != flow_file.resolve():
        module = sys.modules.get(type(flow).__module__)
    found = {
        value.__name__
        for value in list(vars(module).values() if module else [])
        if isinstance(value, type) and issubclass(value, FlowSpec) and _has_steps(value)
    }
    return sorted(found | {type(flow).__name__})


def _has_steps(flow: type) -> bool:
    return any(getattr(value, "is_step", False) for base in flow.__mro__ for value in vars(base).values())


def _unconditional(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the expressions that each start of the file as a program evaluates, outside of functions and branches."""
    for statement in tree.body:
        is_main = isinstance(statement, ast.If) and _asks_for_main(statement.test)
        for one in statement.body if is_main else [statement]:  # type: ignore[attr-defined]
            if isinstance(one, ast.Expr):
                yield one.value


def _called(nodes: Iterable[ast.AST]) -> list[str]:
    return [one.func.id for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]


def _asks_for_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
        and {"__name__", "__main__"}
        == {getattr(one, "id", getattr(one, "value", None)) for one in (test.left, *test.comparators)}
    )
