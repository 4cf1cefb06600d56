"""The page *Troubleshooting*: each error of this package with its cause and its fix, read from the sources."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BASE = "MetaflowProviderError"
UNKNOWN = "…"


@dataclass(slots=True)
class ErrorClass:
    """An error class, and the messages that the code raises it with.

    :param name: its name.
    :param cause: the first paragraph of its docstring.
    :param fix: its attribute of this name.
    :param bases: names of its bases.
    :param messages: message and hint.
    """

    name: str
    cause: str
    fix: str
    bases: tuple[str, ...]
    messages: set[tuple[str, str]] = field(default_factory=set)


def page(root: Path) -> str:
    """Return the page in Markdown.

    :param root: the repository.
    """
    lines = [
        "# Troubleshooting",
        "",
        (
            "Every error that this package raises, by its class, with its cause and what to do. Messages begin with the flow and"
            " the step that they are about; `…` stands for a name or a value. This page is generated from the code."
        ),
        "",
        (
            "Search it for the words of your message. If it is not here, it comes from Metaflow, Airflow or your own code:"
            " look at the log of the task."
        ),
        "",
        "`metaflow-airflow doctor` examines a machine, `metaflow-airflow validate DAGS_FOLDER` what is deployed.",
        "",
    ]
    for one in sorted(find_errors(root).values(), key=lambda each: each.name):
        if one.name == BASE:
            continue
        lines += [f"## {one.name}", "", f"**Cause:** {one.cause}", "", f"**Fix:** {one.fix}", ""]
        if one.messages:
            lines += ["| message | what to do |", "|---|---|"]
            lines += [f"| {_cell(message)} | {_cell(hint)} |" for message, hint in sorted(one.messages)]
            lines.append("")
    return "\n".join(lines)


def find_errors(root: Path) -> dict[str, ErrorClass]:
    """Return all error classes of the package by name.

    :param root: the repository.
    """
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in _sources(root)]
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: dict[str, ErrorClass] = {}
    while True:
        more = {
            name: ErrorClass(name, _cause(node), _fix(node), _bases(node))
            for name, node in classes.items()
            if name not in found and (name == BASE or set(_bases(node)) & set(found))
        }
        if not more:
            break
        found.update(more)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) in found:
                _add_message(found[_name(node.func)], node)
    return {name: _with_private(one, found) for name, one in found.items() if not name.startswith("_")}


def _with_private(error: ErrorClass, found: dict[str, ErrorClass]) -> ErrorClass:
    """Add the messages of private subclasses, which users see as those of the public class."""
    for one in found.values():
        if one.name.startswith("_") and error.name in one.bases:
            error.messages |= one.messages
    return error


def _sources(root: Path) -> Iterator[Path]:
    for folder in ("provider", "adapters"):
        yield from sorted((root / folder).rglob("*.py"))


def _cause(node: ast.ClassDef) -> str:
    first = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\n")[0]
    return first.replace("``", "`").replace("\n", " ")


def _fix(node: ast.ClassDef) -> str:
    for one in node.body:
        if isinstance(one, ast.Assign) and _name(one.targets[0]) == "fix":
            return _text(one.value)
    return ""


def _bases(node: ast.ClassDef) -> tuple[str, ...]:
    return tuple(_name(base) for base in node.bases)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _add_message(error: ErrorClass, call: ast.Call) -> None:
    given = {one.arg: one.value for one in call.keywords}
    message = call.args[0] if call.args else given.get("message")
    text = _text(message) if message is not None else UNKNOWN
    # A message that is a variable is found where that variable is made, if at all.
    if any(character.isalpha() for character in text):
        hint = _text(given["hint"]) if "hint" in given else ""
        error.messages.add((text, hint if any(map(str.isalpha, hint)) else ""))


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) if isinstance(one, ast.Constant) else UNKNOWN for one in node.values)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Mod):
            text = _text(node.left)
            for mark in ("%s", "%r", "%d"):
                text = text.replace(mark, UNKNOWN)
            return text
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        texts = [one for one in (_text(node.body), _text(node.orelse)) if any(map(str.isalpha, one))]
        return " / ".join(texts) or UNKNOWN
    return UNKNOWN


def _cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return escaped.replace("[", "\\[").replace("*", "\\*").replace("_", "\\_").strip()
