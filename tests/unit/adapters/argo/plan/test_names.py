"""Names of deployments and templates on Argo."""

from __future__ import annotations

import pytest

from metaflow_adapters.argo.plan.names import MAX_NAME, TEMPLATE_NAME, Names, deployed_name
from metaflow_orchestration.exceptions import InvalidOptionError


def test_a_flow_is_deployed_under_its_name_in_lower_case() -> None:
    assert deployed_name("Training_Flow") == "trainingflow"
    assert deployed_name("Flow", ("proj", "user.ann@example.org")) == "proj.user.annexample.org.flow"


def test_a_long_name_of_a_project_is_cut_readably_and_stays_its_own() -> None:
    names = {
        deployed_name("ForecastTrainingFlow", ("marketing_analytics", f"test.feature-{n}-of-many")) for n in (1, 2)
    }
    assert len(names) == 2
    for name in names:
        assert len(name) <= MAX_NAME
        assert name.startswith("marketingana.test.feature")
        TEMPLATE_NAME.check(name, "F")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Upper", "lowercase letters"),
        ("-a", "start with a letter"),
        ("a-", "end with a letter"),
        ("a" * 46, "may have 45"),
    ],
)
def test_a_bad_name_is_refused_with_the_rule(name: str, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        TEMPLATE_NAME.check(name, "F")


def test_a_flow_name_that_is_too_long_asks_for_another() -> None:
    with pytest.raises(InvalidOptionError, match="argo --name"):
        deployed_name("A" * 46)


def test_templates_never_share_a_name() -> None:
    names = Names()
    assert [names.take(name) for name in ("a_b", "a-b", "a_b")] == ["a-b", "a-b-2", "a-b-3"]
