"""Where Airflow is and how to log in, as Metaflow's configuration says it."""

from __future__ import annotations

import pytest

from airflow_provider_metaflow.rest.endpoint import Endpoint, configured_endpoint
from metaflow_orchestration.exceptions import InvalidOptionError


def configured(**values: str) -> Endpoint:
    return configured_endpoint({f"AIRFLOW_{name}": value for name, value in values.items()}.get)


def test_all_of_an_endpoint_comes_from_the_configuration() -> None:
    found = configured(
        URL="https://a.example/api/v2/", USERNAME="ann", PASSWORD="pw", VERIFY="false", CA_FILE="/ca", PATIENCE="1.5"
    )
    assert (found.url, found.username, found.password) == ("https://a.example", "ann", "pw")
    assert (found.verify, found.ca_file, found.patience) == (False, "/ca", 1.5)


def test_no_secret_shows_when_an_endpoint_is_printed() -> None:
    shown = repr(configured(URL="http://a", PASSWORD="s3cret", TOKEN="s3cret", AUTH_COMMAND="get s3cret"))
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "METAFLOW_AIRFLOW_URL is not set"),
        ({"URL": "a.example"}, "must start with http"),
        ({"URL": "http://a", "VERIFY": "maybe"}, "METAFLOW_AIRFLOW_VERIFY is 'maybe'"),
        ({"URL": "http://a", "PATIENCE": "long"}, "METAFLOW_AIRFLOW_PATIENCE is 'long'"),
    ],
)
def test_a_wrong_value_is_told_by_its_name(values: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        configured(**values)
