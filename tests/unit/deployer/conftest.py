"""The same terminal and Airflow as in the tests of the command groups."""

from tests.unit.cli.conftest import api, terminal

__all__ = ["api", "terminal"]
