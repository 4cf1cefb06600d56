from __future__ import annotations

import pytest

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.naming import DAG_ID, check_name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a b", "'a b' cannot be a DAG id.*Use letters, digits, dashes, dots and underscores only"),
        ("", "cannot be a DAG id"),
        ("a\n", "cannot be a DAG id"),
        ("x" * 251, "has 251 characters; a DAG id may have 250.*Choose a shorter --name or branch"),
    ],
)
def test_a_name_that_airflow_refuses_is_refused_with_the_rule(name: str, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"(?s){told}"):
        check_name(name, "Flow")


def test_the_longest_dag_id_is_taken() -> None:
    check_name("x" * DAG_ID.longest, "Flow")
