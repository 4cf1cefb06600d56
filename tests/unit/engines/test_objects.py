"""Conditional writes of the tests' S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.engines.aws import objects


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    objects.install()
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
        yield


@pytest.mark.usefixtures("s3")
def test_of_many_writers_that_want_to_be_the_first_one_is() -> None:
    """Both of two gates of Step Functions claimed a set of events once in a while."""
    ended: list[str] = []
    ready = threading.Barrier(8)

    def claim() -> None:
        client = boto3.Session().client("s3", region_name="us-east-1")
        ready.wait(10)
        try:
            client.put_object(Bucket="bucket", Key="claim", IfNoneMatch="*", Body=b"")
            ended.append("claimed")
        except ClientError as error:
            ended.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(ended) == ["PreconditionFailed"] * 7 + ["claimed"]
