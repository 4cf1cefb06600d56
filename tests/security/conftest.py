"""Runs of flows as the tests of the operators have them."""

from __future__ import annotations

from tests.unit.adapters.conftest import _on_s3
from tests.unit.execution.conftest import make_dag, metaflow, remote_dag, start

__all__ = ["_on_s3", "make_dag", "metaflow", "remote_dag", "start"]
