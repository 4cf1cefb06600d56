"""`python flow.py airflow VERB --help`: options in groups, short, with the environment variables of the verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.command_line import CommandLine


def sections(text: str) -> dict[str, str]:
    """Return the parts of a help by their titles."""
    found = re.split(r"^([A-Z][a-z A-Z]+):\n", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


@pytest.mark.parametrize("group", ["airflow", "argo", "sfn"])
def test_the_options_of_create_are_grouped_and_take_a_line_each(
    terminal: CommandLine, flows: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    """They were 75 lines in no order."""
    monkeypatch.setenv("COLUMNS", "120")
    shown = sections(terminal.run(flows / "linear.py", group, "create", "--help").output)
    assert list(shown) == ["Options", "Notifications", "Production token", "Environment variables"]
    assert "--max-workers INTEGER" in shown["Options"]
    assert "--[no-]notify-on-error" in shown["Notifications"]
    assert shown["Production token"].split("\n")[0].split()[:2] == ["--authorize", "TOKEN"]
    texts = [line for part in shown.values() for line in part.splitlines()]
    assert max(map(len, texts)) <= 110
    names = [line for line in texts if line[2:3].strip()]
    assert sum(bool(line.strip()) for line in texts) < 1.6 * len(names)


def test_each_verb_shows_the_parameters_of_the_flow_and_the_variables_that_it_reads(
    terminal: CommandLine, flows: Path
) -> None:
    shown = sections(terminal.run(flows / "grouped.py", "airflow", "trigger", "--help").output)
    assert list(shown) == ["Parameters of the flow", "Options", "Environment variables"]
    assert shown["Parameters of the flow"].split()[0] == "--text"
    assert "METAFLOW_AIRFLOW_URL" in shown["Environment variables"]
    assert "METAFLOW_AIRFLOW_DAGS_FOLDER" not in shown["Environment variables"]
    shown = sections(terminal.run(flows / "grouped.py", "airflow", "create", "--help").output)
    assert "METAFLOW_AIRFLOW_DAGS_FOLDER" in shown["Environment variables"]
    shown = sections(terminal.run(flows / "grouped.py", "argo", "trigger", "--help").output)
    assert "KUBECONFIG" in shown["Environment variables"]


def test_help_names_every_variable_by_which_an_airflow_is_found() -> None:
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.airflow.group import group as airflow

    read: list[str] = []
    configured_endpoint(lambda name: read.append(f"METAFLOW_{name}") or ("https://x" if name.endswith("URL") else None))
    shown = " ".join(name for name, _ in airflow.variables_of("trigger")).replace("…_", "METAFLOW_AIRFLOW_")
    assert set(read) == set(shown.replace(",", "").split())
