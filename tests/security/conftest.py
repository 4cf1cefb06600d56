"""Runs of flows as the tests of the operators have them."""

from __future__ import annotations

from tests.unit.operators.conftest import make_dag, metaflow, start

__all__ = ["make_dag", "metaflow", "start"]
