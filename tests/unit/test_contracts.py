"""The rules that hold for the package as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from airflow_provider_metaflow import __version__
from airflow_provider_metaflow.get_provider_info import get_provider_info
from metaflow_orchestration import exceptions as all_exceptions

ROOT = Path(__file__).parents[2]


@pytest.mark.subprocess
def test_imports_keep_to_the_contracts() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", "setup.cfg"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_provider_metadata_are_those_of_provider_yaml_and_fit_airflows_schema() -> None:
    import json
    from importlib.resources import files

    source = yaml.safe_load((ROOT / "provider" / "airflow_provider_metaflow" / "provider.yaml").read_text())
    assert source.pop("versions")[0] == __version__
    assert source == get_provider_info()
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_version_is_the_same_everywhere() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "cls",
    [
        cls
        for cls in vars(all_exceptions).values()
        if isinstance(cls, type) and issubclass(cls, all_exceptions.MetaflowProviderError)
    ],
)
def test_every_error_names_flow_step_and_fix_and_survives_pickling(
    cls: type[all_exceptions.MetaflowProviderError],
) -> None:
    import pickle

    error = cls("is wrong.", flow="F", step="s", hint="Fix it.")
    assert str(error) == "flow F step s: is wrong. Fix it."
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.flow, again.step, again.hint) == (cls, str(error), "F", "s", "Fix it.")
