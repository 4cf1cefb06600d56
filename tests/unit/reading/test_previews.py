"""What of a value is shown, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_metaflow.reading.previews import MAX_PREVIEW, is_secret_name, preview


@pytest.mark.parametrize(
    "name",
    ["password", "db_passwd", "apiKey", "API_KEY", "accessToken", "client_secret", "awsCredentials", "key",
     "authHeader", "private-key", "sessionId", "connection_string", "Authorization"],
)  # fmt: skip
def test_names_that_sound_like_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)
    assert preview(name, "harmless") is None
    assert preview("settings", [{"deep": {name: "harmless"}}]) is None


@pytest.mark.parametrize("name", ["rows", "author", "compass", "monkey", "keyboard", "alpha", "result_2", "x"])
def test_names_of_other_things_are_shown(name: str) -> None:
    assert preview(name, 1) == "1"


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMII",
        "AKIAABCDEFGHIJKLMNOP",
        "ghp_" + "a" * 36,
        "xoxb-123-456",
        "sk-" + "a" * 40,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x",
        "postgresql://user:hunter2@host/db",
        "https://bucket.example/file?X-Amz-Signature=abc",
        "Authorization: Bearer abcdefghijklmnop",
        "user=ann password=hunter2",
    ],
)
def test_values_that_look_like_secrets_are_hidden_wherever_they_stand(value: str) -> None:
    for shown in (value, [value], {"a": [value]}, f"before {value} after"):
        assert preview("x", shown) is None


def test_a_value_that_is_nested_too_deeply_to_be_looked_through_is_hidden() -> None:
    value: Any = "x"
    for _ in range(100):
        value = [value]
    assert preview("x", value) is None


def test_a_preview_is_short_on_one_line_and_shows_what_is_invisible() -> None:
    long = preview("x", "é" * 1000)
    assert long is not None
    assert long.startswith('"é')
    assert len(long) == MAX_PREVIEW + 1
    assert preview("x", "a\nb\u202ec\u200bd\x1b") == '"a\\nb\\u202ec\\u200bd\\u001b"'
    # A half of a character, which no page can be encoded with.
    assert (preview("x", "\ud800") or "").encode() == b'"\\ud800"'
