"""What the pages say exists: snippets compile, commands and options are there, each setting and error is described."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from site_pages import commands, configuration, errors, included

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
SOURCES = [file for folder in ("provider", "adapters") for file in (ROOT / folder).rglob("*.py")]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_each_python_snippet_compiles() -> None:
    snippets = [(page.name, text) for page in PAGES for text in _blocks(page, "python")]
    assert len(snippets) > 20
    for page, text in snippets:
        # The error shows the page as the file.
        ast.parse(text, page)


def test_what_a_snippet_imports_of_this_package_exists() -> None:
    from importlib import import_module

    names = {
        (node.module, alias.name)
        for page in PAGES
        for text in _blocks(page, "python")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(("airflow_provider_metaflow", "metaflow_adapters"))
        for alias in node.names
    }
    assert ("airflow_provider_metaflow", "MetaflowDag") in names
    for module, name in names:
        assert hasattr(import_module(module), name), f"{module} has no {name}"


def _public() -> list[tuple[str, str]]:
    """Module and name of each object of the API page."""
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    return [(module, name) for module, _, name in (one.rpartition(".") for one in names)]


@pytest.mark.parametrize(("module", "name"), _public(), ids=[".".join(one) for one in _public()])
def test_each_object_of_the_api_says_since_when_and_has_an_example_of_calls_that_it_takes(
    module: str, name: str
) -> None:
    from importlib import import_module

    import airflow_provider_metaflow

    found = getattr(import_module(module), name)
    text = inspect.getdoc(found) or ""
    (since,) = re.findall(r"^New in version ([0-9.]+)\.$", text, re.MULTILINE)
    assert Version(since) <= Version(airflow_provider_metaflow.__version__)
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    tree = ast.parse(example)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("airflow_provider", "metaflow_")):
            for alias in node.names:
                assert hasattr(import_module(str(node.module)), alias.name)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            keywords = {str(one.arg): None for one in node.keywords}
            inspect.signature(found).bind(*node.args, **keywords)


def _command_lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in _blocks(page, "bash"):
            for line in block.replace("\\\n", " ").split("\n"):
                yield page.name, line
        # A path between backticks is no command line.
        for line in re.findall(r"`((?:python \w+\.py|metaflow-airflow) [^`]+)`", page.read_text()):
            yield page.name, line


def _tokens(line: str) -> list[str]:
    return shlex.split(line.replace("…", ""), comments=True)


def _flow_command(tokens: list[str]) -> tuple[Any, Any, list[str]] | None:
    """Return group, command and what follows, if the tokens call a flow."""
    if tokens[:1] != ["python"] or len(tokens) < 3 or not tokens[1].endswith(".py"):
        return None
    at = next((index for index, one in enumerate(tokens) if one in commands.GROUPS), None)
    if at is None or at + 1 == len(tokens):
        return None
    group = commands.flow_group(tokens[at])
    return group, group.commands.get(tokens[at + 1]), tokens[at + 1 :]


PARAMETERS = {"--alpha", "--updates", "--notes", "--threshold"}
"""Options of the parameters of the flows in the documentation."""


def test_each_command_line_of_a_flow_calls_commands_and_options_that_exist() -> None:
    seen = 0
    for page, line in _command_lines():
        found = _flow_command(_tokens(line))
        if found is None:
            continue
        _, command, rest = found
        assert command is not None, f"{page}: {line}"
        known = {*commands.options_of(command), *PARAMETERS, "--help"}
        given = {one.partition("=")[0] for one in rest if one.startswith("--")}
        assert given <= known, f"{page}: {line}: {given - known}"
        seen += 1
    assert seen > 20


def test_each_command_line_of_the_console_calls_commands_and_options_that_exist() -> None:
    from airflow_provider_metaflow.console.main import main

    seen = 0
    for page, line in _command_lines():
        tokens = _tokens(line)
        if tokens[:1] != ["metaflow-airflow"]:
            continue
        given = {one.partition("=")[0] for one in tokens[1:] if one.startswith("--")}
        if tokens[1].startswith("-"):
            # `metaflow-airflow … --json` is about all of its commands.
            every = [set(commands.options_of(command)) for command in main.commands.values()]
            assert all(any(option in one for one in every) for option in given - {"--help"}), f"{page}: {line}"
            continue
        assert tokens[1] in main.commands, f"{page}: {line}"
        assert given <= {*commands.options_of(main.commands[tokens[1]]), "--help"}, f"{page}: {line}"
        seen += 1
    assert seen > 5


def test_the_command_line_reference_describes_each_command_and_option() -> None:
    page = commands.page()
    for name in commands.GROUPS:
        for verb, command in commands.flow_group(name).commands.items():
            assert f"\n### python flow.py {name} {verb}\n" in page
            for option in command.params:
                if option.param_type_name == "option" and not option.hidden:
                    assert f"`{option.opts[0]}" in page
    assert "\n### metaflow-airflow validate\n" in page


def test_the_configuration_reference_names_each_variable_that_the_code_reads() -> None:
    text = "\n".join(file.read_text() for file in SOURCES)
    read = set(re.findall(r"\bMETAFLOW_(?:AIRFLOW|ADAPTERS)_[A-Z_]*[A-Z]\b", text))
    read |= {f"METAFLOW_{name}" for name in re.findall(r"\(\s*\"((?:AIRFLOW|ADAPTERS)_[A-Z_]+[A-Z])\"", text)}
    # Settings of Airflow itself.
    read -= {"METAFLOW_AIRFLOW_HOME", "METAFLOW_AIRFLOW_CTX_"}
    from metaflow import metaflow_config

    stock = {f"METAFLOW_{name}" for name in vars(metaflow_config) if name.startswith("AIRFLOW_KUBERNETES_")}
    described = {one.name for one in configuration.VARIABLES}
    assert read <= described
    assert {name for name in described if "KUBERNETES" in name} <= stock
    for name in described:
        assert f"| `{name}` |" in configuration.page()


def test_the_configuration_reference_names_each_key_of_the_section() -> None:
    from airflow_provider_metaflow.get_provider_info import get_provider_info

    page = configuration.page()
    for key in get_provider_info()["config"]["metaflow"]["options"]:
        assert f"| `{key}` |" in page


def test_troubleshooting_gives_the_cause_of_each_error_class_and_what_to_do() -> None:
    found = errors.find_errors(ROOT)
    assert {"StepFailedError", "InvalidOptionError", "AirflowApiError"} <= set(found)
    page = errors.page(ROOT)
    for name, one in found.items():
        if name == errors.BASE:
            continue
        assert f"\n## {name}\n" in page
        assert one.cause, f"{name} has no docstring that says when it is raised"
        assert one.fix, f"{name} has no `fix` that says what to do"


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ('raise FooError(f"no {x!r} here.", hint="Make it.")', "no … here.", "Make it."),
        ('raise FooError("no %s here" % x)', "no … here", ""),
        ('error = FooError("one" if a else "two", flow=f)', "one / two", ""),
    ],
)
def test_a_message_is_read_from_the_code(code: str, message: str, hint: str, tmp_path: Path) -> None:
    classes = 'class MetaflowProviderError(Exception): "Base."\nclass FooError(MetaflowProviderError): "Foo."\n'
    (tmp_path / "provider").mkdir()
    (tmp_path / "provider/one.py").write_text(classes + code)
    assert errors.find_errors(tmp_path)["FooError"].messages == {(message, hint)}


def test_links_of_the_readme_lead_to_pages_of_the_site() -> None:
    page = included.pages(ROOT)["index.md"]
    assert "](quickstart.md)" in page
    assert "](changelog.md)" in page
    assert "](demo-graph.png)" in page
    assert included.SOURCE + "docs/" not in page


def test_a_link_out_of_the_site_leads_to_the_repository() -> None:
    assert included.with_links_out("[a](../SECURITY.md) [b](../Makefile)") == (
        f"[a](threat-model.md) [b]({included.SOURCE}Makefile)"
    )


def test_the_figures_of_the_performance_page_are_those_of_the_results() -> None:
    from benchmarks import report

    assert report.PAGE.read_text() == report.page(), "run: python benchmarks/report.py"


def test_the_run_of_all_benchmarks_knows_each_of_them() -> None:
    from benchmarks import run

    # Those that measure take options; the other files are parts of them.
    files = {file.stem for file in (ROOT / "benchmarks").glob("*.py") if "argparse" in file.read_text()}
    assert files <= set(run.COMMANDS), files - set(run.COMMANDS)
    assert all((ROOT / f"benchmarks/{name}.py").exists() for name in run.COMMANDS)


def test_the_architecture_page_names_packages_that_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:metaflow_orchestration|airflow_provider_metaflow|metaflow_adapters)\.\w+)", text))
    assert len(named) > 10
    for name in named:
        path = name.replace(".", "/")
        assert any((ROOT / folder / path).is_dir() for folder in ("provider", "adapters")), name
