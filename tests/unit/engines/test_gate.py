"""The door of the AWS server: callers are told apart by their access keys, and refused in the words of each service."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.engines.aws.enforcement import ACCOUNT, REGION, Enforcement
from tests.engines.aws.gate import Gate
from tests.engines.aws.shared import ADMINISTRATOR, AUTHORITY, EVERYTHING, THROTTLE, SharedAuthority, SharedThrottle
from tests.support.object_store import CREDENTIALS, credentials_of, trust

WHO = f"arn:aws:iam::{ACCOUNT}:user/one"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/role"
DEFINITION = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/d"
QUEUE = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/q"


class Door:
    """A server with the gate, before an application that notes what reaches it and finds nothing.

    :param folder: for the files of the server.
    """

    def __init__(self, folder: Path) -> None:
        from werkzeug.serving import make_server

        self.folder, self.reached = folder, list[str]()
        self.authority = SharedAuthority(folder / AUTHORITY)
        self.authority.add(ADMINISTRATOR, [EVERYTHING])
        # The server has its own view of the file.
        seen = SharedAuthority(folder / AUTHORITY)
        enforcement = Enforcement(seen, SharedThrottle(folder / THROTTLE))
        gate = Gate(self._application, enforcement, seen, CREDENTIALS["AWS_ACCESS_KEY_ID"])
        self.server = make_server("127.0.0.1", 0, gate, threaded=True)

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.reached.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {body.decode()}")
        absent = environ["PATH_INFO"].startswith("/bucket")
        # S3's answers have no JSON.
        is_s3 = environ["PATH_INFO"].startswith("/other")
        found = b"<Error><Code>NoSuchKey</Code></Error>" if absent else b"" if is_s3 else b"{}"
        status = "404 Not Found" if absent else "200 OK"
        start_response(status, [("Content-Length", str(len(found)))])
        return [found]

    def client(self, service: str, arn: str | None = WHO) -> Any:
        """Return a client of a principal; None signs nothing."""
        given = credentials_of(arn or WHO)
        config = Config(retries={"max_attempts": 0}, **({} if arn else {"signature_version": UNSIGNED}))
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.server.port}",
            region_name=REGION,
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            config=config,
        )

    def allow(self, *statements: tuple[str, Any], **condition: Any) -> None:
        """Give the principal pairs of action and resource."""
        extra = {"Condition": condition} if condition else {}
        made = [{"Effect": "Allow", "Action": [one], "Resource": where, **extra} for one, where in statements]
        self.authority.add(WHO, [{"Version": "2012-10-17", "Statement": made}])


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join(10)


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Return code and message of the error that a call must give."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"], caught.value.response["Error"].get("Message", "")


CALLS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "json": ("stepfunctions", lambda one: one.list_state_machines(), "AccessDeniedException"),
    "rest-json": ("batch", lambda one: one.describe_job_queues(), "AccessDeniedException"),
    "rest-xml": ("s3", lambda one: one.put_object(Bucket="bucket", Key="k", Body=b"x" * 99), "AccessDenied"),
    "query": (
        "sns", lambda one: one.publish(TopicArn="arn:aws:sns:us-east-1:1:t", Message="m"), "AccessDeniedException"
    ),
}  # fmt: skip


@pytest.mark.parametrize("protocol", CALLS)
def test_who_is_allowed_nothing_is_refused_in_each_protocol_and_nothing_reaches_the_service(
    door: Door, protocol: str
) -> None:
    door.authority.add(WHO, [])
    service, call, code = CALLS[protocol]
    found, message = refused(lambda: call(door.client(service)))
    assert found == code
    assert f"{WHO} is not authorized to perform: " in message
    assert door.reached == []


@pytest.mark.parametrize(
    ("arn", "code"), [("arn:aws:iam::1:role/unknown", "InvalidClientTokenId"), (None, "MissingAuthenticationToken")]
)
def test_a_key_of_nobody_and_a_call_without_a_key_are_refused(door: Door, arn: str | None, code: str) -> None:
    assert refused(lambda: door.client("s3", arn).put_object(Bucket="bucket", Key="k"))[0] == code
    assert door.reached == []


def test_a_grant_counts_at_once_and_so_does_its_end(door: Door) -> None:
    queues = door.client("batch").describe_job_queues
    door.allow(("batch:DescribeJobQueues", "*"))
    queues()
    assert door.reached == ["POST /v1/describejobqueues {}"]
    door.allow(("batch:DescribeJobs", "*"))
    assert refused(queues)[0] == "AccessDeniedException"


def test_a_job_that_is_tagged_needs_the_right_to_tag(door: Door) -> None:
    door.allow(("batch:SubmitJob", [DEFINITION, QUEUE]))
    submit = door.client("batch").submit_job
    assert "not ACTIVE" in refused(lambda: submit(jobName="j", jobQueue="q", jobDefinition="d"))[1]
    tagged = refused(lambda: submit(jobName="j", jobQueue="q", jobDefinition="d", tags={"a": "b"}))
    assert "batch:TagResource" in tagged[1]


def test_submissions_beyond_the_rate_are_refused_only_while_a_test_says_so(door: Door) -> None:
    door.allow(("batch:SubmitJob", "*"))

    def submit() -> tuple[str, str]:
        return refused(lambda: door.client("batch").submit_job(jobName="j", jobQueue="q", jobDefinition="d"))

    (door.folder / THROTTLE).write_text("1")
    assert [submit()[0] for _ in range(3)] == ["ClientException", *["TooManyRequestsException"] * 2]
    (door.folder / THROTTLE).unlink()
    assert submit()[0] == "ClientException"


def test_a_role_that_does_not_trust_the_service_cannot_be_passed_to_it_by_the_administrator_either(door: Door) -> None:
    definition = json.dumps({"StartAt": "a", "States": {"a": {"Type": "Succeed"}}})
    machine = {"name": "m", "definition": definition, "roleArn": ROLE}
    create = door.client("stepfunctions", ADMINISTRATOR).create_state_machine
    door.authority.add(ROLE, [EVERYTHING], trust("events"))
    assert "is not authorized to assume the provided role" in refused(lambda: create(**machine))[1]
    door.authority.add(ROLE, [EVERYTHING], trust("states"))
    create(**machine)
    assert len(door.reached) == 1


def test_a_payload_over_the_size_that_aws_takes_is_refused(door: Door) -> None:
    start = door.client("stepfunctions", ADMINISTRATOR).start_execution
    machine = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:m"
    code, message = refused(lambda: start(stateMachineArn=machine, input=json.dumps("x" * 262_144)))
    assert (code, "AWS takes 262144" in message) == ("ValidationException", True)
    assert door.reached == []


def test_keys_and_prefixes_of_s3_are_what_policies_speak_of(door: Door) -> None:
    door.allow(("s3:PutObject", "arn:aws:s3:::other/a b/*"), ("s3:ListBucket", "arn:aws:s3:::other"))
    door.client("s3").put_object(Bucket="other", Key="a b/ü", Body=b"body")
    assert len(door.reached) == 1
    assert refused(lambda: door.client("s3").put_object(Bucket="other", Key="c", Body=b"body"))[0] == "AccessDenied"
    door.allow(("s3:ListBucket", "arn:aws:s3:::other"), StringLike={"s3:prefix": ["mine/*"]})
    listing = door.client("s3").list_objects_v2
    assert refused(lambda: listing(Bucket="other", Prefix="theirs/"))[0] == "AccessDenied"
    assert refused(lambda: listing(Bucket="other"))[0] == "AccessDenied"


def test_an_absent_object_is_a_secret_of_those_who_may_list_the_bucket(door: Door) -> None:
    found = ("s3:GetObject", "arn:aws:s3:::bucket/*")
    door.allow(found)
    read = door.client("s3").get_object
    assert refused(lambda: read(Bucket="bucket", Key="k"))[0] == "AccessDenied"
    assert refused(lambda: door.client("s3").head_object(Bucket="bucket", Key="k"))[0] == "403"
    door.allow(found, ("s3:ListBucket", "arn:aws:s3:::bucket"))
    assert refused(lambda: read(Bucket="bucket", Key="k"))[0] == "NoSuchKey"


def test_a_call_whose_permissions_are_not_known_is_the_administrators_only(door: Door) -> None:
    door.authority.add(WHO, [EVERYTHING])
    assert "is not known here" in refused(lambda: door.client("batch").cancel_job(jobId="j", reason="r"))[1]
    door.client("batch", ADMINISTRATOR).cancel_job(jobId="j", reason="r")
    assert len(door.reached) == 1


def test_iam_answers_by_the_principals_that_are_enforced(door: Door) -> None:
    allowed = {"Effect": "Allow", "Action": ["batch:SubmitJob"], "Resource": [QUEUE]}
    door.authority.add(ROLE, [{"Version": "2012-10-17", "Statement": [allowed]}], trust("states"))
    iam = door.client("iam")
    asked = {"PolicySourceArn": ROLE, "ActionNames": ["batch:SubmitJob"], "ResourceArns": [QUEUE, DEFINITION]}
    door.allow(("iam:GetRole", ROLE))
    with pytest.raises(ClientError, match="iam:SimulatePrincipalPolicy"):
        iam.simulate_principal_policy(**asked)
    door.allow(("iam:SimulatePrincipalPolicy", ROLE), ("iam:GetRole", ROLE))
    pages = iam.get_paginator("simulate_principal_policy").paginate(**asked)
    found = [(one["EvalResourceName"], one["EvalDecision"]) for page in pages for one in page["EvaluationResults"]]
    assert found == [(QUEUE, "allowed"), (DEFINITION, "implicitDeny")]
    document = iam.get_role(RoleName="role")["Role"]["AssumeRolePolicyDocument"]
    assert document["Statement"][0]["Principal"] == {"Service": ["states.amazonaws.com"]}
    assert door.reached == []
