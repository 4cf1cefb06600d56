"""Whom a deployment tells of its runs, and the secret that says how."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.aws_account import Account

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.aws.client import AwsError
from metaflow_adapters.step_functions.aws.secrets import remove_secret, save_secret
from metaflow_adapters.step_functions.deploy.notify import read_notifications, save_endpoints
from metaflow_adapters.step_functions.plan.names import UNKNOWN_SECRET
from metaflow_orchestration.exceptions import InvalidOptionError

There = Callable[..., FlowMachine]
NOTHING = {
    "notify_on_error": False, "notify_on_success": False, "notify_sns_topic": None, "notify_slack_webhook_url": None,
    "notify_pager_duty_integration_key": None, "notify_incident_io_api_key": None, "notify_secret": None,
    "incident_io_alert_source_config_id": None, "incident_io_metadata": (),
}  # fmt: skip
SLACK = {"notify_on_error": True, "notify_slack_webhook_url": "https://hooks.example.org/hush"}


def read(aws: Any = None, **options: Any) -> Any:
    return read_notifications("F", "linear", {**NOTHING, **options}, aws)


@pytest.fixture
def granted(account: Account, there: There) -> Account:
    account.grant(there("linear"))
    return account


def secrets(account: Account) -> dict[str, Any]:
    client = account.client("secretsmanager")
    return {
        one["Name"]: json.loads(client.get_secret_value(SecretId=one["Name"])["SecretString"])
        for one in client.list_secrets()["SecretList"]
    }


def test_nobody_is_told_unless_it_is_asked_for() -> None:
    assert read(notify_slack_webhook_url="https://x") is None


def test_what_is_given_is_kept_in_a_secret_and_nowhere_else(granted: Account) -> None:
    told = read(granted.aws(), **SLACK)
    assert secrets(granted) == {"linear-notify": {"SLACK": SLACK["notify_slack_webhook_url"]}}
    assert told.slack.startswith("arn:aws:secretsmanager:us-east-1:123456789012:secret:linear-notify-")
    assert "hush" not in repr(told)
    assert (told.on_error, told.on_success, told.pager_duty) == (True, False, None)
    # Deployed again, with another endpoint.
    other = {"notify_on_success": True, "notify_pager_duty_integration_key": "key"}
    again = read(granted.aws(), **other)
    assert again.pager_duty == told.slack
    # What is deployed still reads it, and goes on if the deployment that follows is refused.
    assert secrets(granted) == {"linear-notify": {"SLACK": SLACK["notify_slack_webhook_url"]}}
    save_endpoints("F", "linear", {**NOTHING, **other}, granted.aws())
    assert secrets(granted) == {"linear-notify": {"PAGER_DUTY": "key"}}
    save_endpoints("F", "linear", NOTHING, granted.aws())
    assert secrets(granted) == {"linear-notify": {"PAGER_DUTY": "key"}}


def test_a_topic_alone_needs_no_secret(granted: Account) -> None:
    told = read(granted.aws(), notify_on_error=True, notify_sns_topic="arn:aws:sns:x:1:t")
    assert (told.sns_topic, told.slack, secrets(granted)) == ("arn:aws:sns:x:1:t", None, {})


def test_a_secret_of_ones_own_serves_all_endpoints() -> None:
    told = read(notify_on_error=True, notify_secret="arn:mine")
    assert (told.slack, told.pager_duty, told.incident_io) == ("arn:mine", "arn:mine", "arn:mine")


def test_where_nothing_is_deployed_nothing_is_saved() -> None:
    assert read(None, **SLACK).slack == UNKNOWN_SECRET


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"notify_on_error": True}, "no recipient is given"),
        ({**SLACK, "notify_secret": "arn:mine"}, "names a secret and gives the content of one"),
        ({"notify_on_error": True, "notify_incident_io_api_key": "k"}, "alert"),
        ({**SLACK, "incident_io_metadata": ("x",)}, "x"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_saved(granted: Account, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        read(granted.aws(), **options)
    assert secrets(granted) == {}


def test_only_the_secret_that_was_made_for_the_deployment_is_deleted(granted: Account) -> None:
    client = granted.client("secretsmanager")
    client.create_secret(Name="linear-notify", SecretString='{"theirs": "1"}')
    remove_secret(granted.aws(), "linear")
    assert secrets(granted) == {"linear-notify": {"theirs": "1"}}
    client.delete_secret(SecretId="linear-notify", ForceDeleteWithoutRecovery=True)
    remove_secret(granted.aws(), "linear")
    save_secret(granted.aws(), "linear", {"SLACK": "x"})
    remove_secret(granted.aws(), "linear")
    assert secrets(granted) == {}


def test_a_deployer_without_rights_on_secrets_has_made_none(account: Account) -> None:
    remove_secret(account.aws(), "linear")
    assert [one[2] for one in account.enforcement.calls] == ["DescribeSecret"]
    with pytest.raises(AwsError, match=r"Saving the secret linear-notify failed.*CreateSecret"):
        save_secret(account.aws(), "linear", {"SLACK": "x"})
