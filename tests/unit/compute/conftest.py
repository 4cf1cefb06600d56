"""The same runs of flows as in the tests of task instances."""

from tests.unit.execution.conftest import make_dag, metaflow, remote_dag, start

__all__ = ["make_dag", "metaflow", "remote_dag", "start"]
