"""The layer before moto that refuses what AWS would refuse: every client acts as somebody, with that one's policies.

``client_of`` is for callers in this process; ``install`` makes Step Functions and EventBridge of this process act by
the roles that they were given. It hooks into botocore before a call is built, so moto never sees what is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from . import iam
from .authority import Authority, Request
from .permissions import Passed, Where, needed
from .quotas import Throttle, exceeded

ACCOUNT, REGION = "123456789012", "us-east-1"

_CODES = {"s3": "AccessDenied"}
_QUOTA_CODES = {"batch": "ClientException", "stepfunctions": "ValidationException"}


class Enforcement:
    """What AWS enforces of an account.

    :param authority: who may do what.
    :param throttle: how many submissions a second AWS Batch takes; None for any number.
    """

    def __init__(self, authority: Authority, throttle: Throttle | None = None) -> None:
        self.authority, self.throttle = authority, throttle
        self.calls: list[tuple[str, str, str]] = []
        """Who called what: principal, service, operation."""
        self.given: list[Mapping[str, Any]] = []
        """The parameters of each."""
        self.interrupt: Callable[[str, str, str], None] | None = None
        """Called before each call, to refuse what a test says."""
        self.used: set[tuple[str, str]] = set()

    def check(self, arn: str, service: str, operation: str, given: Mapping[str, Any], where: Where) -> None:
        """Refuse a call as AWS would.

        :raises ClientError: with AWS's code for the service.
        """
        self.calls.append((arn, service, operation))
        self.given.append(dict(given))
        if self.interrupt is not None:
            self.interrupt(arn, service, operation)
        found = needed(service, operation, given, where)
        for request in found.requests:
            self._allow(arn, request, service, operation)
        for passed in found.passed:
            self._pass(arn, passed, service, operation)
            for request in found.of_role:
                self._allow(passed.role, request, service, operation)
        problem = exceeded(service, operation, given)
        if problem:
            raise error(_QUOTA_CODES.get(service, "ValidationException"), problem, operation)
        if (service, operation) == ("batch", "SubmitJob"):
            self._submission(given, operation)

    def permits(self, arn: str, service: str, request: Request) -> bool:
        """Whether a service may assume a role, and do something by it."""
        role = self.authority[arn]
        return service in role.trusts and role.allows(request)

    def _allow(self, arn: str, request: Request, service: str, operation: str) -> None:
        self.used.add((arn, request.action))
        if not self.authority[arn].allows(request):
            told = f"{arn} is not authorized to perform: {request.action} on resource: {request.resource}"
            raise error(_CODES.get(service, "AccessDeniedException"), told, operation, 403)

    def _pass(self, arn: str, passed: Passed, service: str, operation: str) -> None:
        context = {"iam:PassedToService": passed.service}
        self._allow(arn, Request("iam:PassRole", passed.role, context), service, operation)
        if passed.service not in self.authority[passed.role].trusts:
            told = f"{passed.service} is not authorized to assume the provided role {passed.role}"
            code = "AccessDeniedException" if service == "stepfunctions" else "ValidationException"
            raise error(code, told, operation)

    def _submission(self, given: Mapping[str, Any], operation: str) -> None:
        if self.throttle is not None and not self.throttle.takes():
            raise error("TooManyRequestsException", "Too Many Requests", operation, 429)
        if bool(given.get("shareIdentifier")) != _is_fair_share(given["jobQueue"]):
            told = f"a share identifier is for queues with a scheduling policy, and needed there: {given['jobQueue']}"
            raise error("ClientException", told, operation)
        name = given["jobDefinition"]
        if not is_active(name):
            raise error("ClientException", f"JobDefinition {name} is not ACTIVE", operation)


def error(code: str, message: str, operation: str, status: int = 400) -> ClientError:
    """Return an error as botocore raises it."""
    metadata = {"RequestId": str(uuid.uuid4()), "HostId": "", "HTTPStatusCode": status, "HTTPHeaders": {}}
    metadata["RetryAttempts"] = 0
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, operation)


def _batch() -> Any:
    from moto.batch.models import batch_backends

    return batch_backends[ACCOUNT][REGION]


def _is_fair_share(queue: str) -> bool:
    found = next((one for one in _batch()._job_queues.values() if queue in (one.name, one.arn)), None)
    return bool(found is not None and found.schedule_policy)


def tags_of(arn: str) -> Mapping[str, str]:
    """Return the tags of a job or job definition of this process, by its ARN."""
    return dict(_batch().tagger.get_tag_dict_for_resource(arn))


def is_active(name: str) -> bool:
    """Whether AWS Batch of this process has an active job definition of a name or ARN."""
    for one in _batch()._job_definitions.values():
        if name in (one.name, one.arn, f"{one.name}:{one.revision}") and one.status == "ACTIVE":
            return True
    return False


_installed: Enforcement | None = None
_clients: dict[tuple[str, str, str], Any] = {}


def install(enforcement: Enforcement | None) -> None:
    """Make the services of this process act by the roles that they were given; None lets them act as before."""
    global _installed  # noqa: PLW0603
    _installed = enforcement
    _act_by_roles()


def installed() -> Enforcement | None:
    """What is enforced in this process."""
    return _installed


def client_of(service: str, arn: str, make: Callable[[], Any], region: str = REGION) -> Any:
    """Return a client that acts as a principal under what is installed; each is made once, for that takes time."""
    key = (service, region, arn)
    if key not in _clients:
        _clients[key] = guard(make(), arn)
    return _clients[key]


def guard(client: Any, arn: str) -> Any:
    """Return a client whose calls are checked for a principal by what is installed."""
    service = client.meta.service_model.service_name
    where = Where(ACCOUNT, client.meta.region_name or REGION, tags_of)

    def before(params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        context["bucket"], context["given"] = params.get("Bucket"), params
        if _installed is not None:
            _installed.check(arn, service, model.name, params, where)

    def after(parsed: dict[str, Any], http_response: Any, context: Mapping[str, Any], **_: Any) -> None:
        """Who may not list a bucket learns not that an object is absent (S3, "GetObject", permissions)."""
        if _installed is None or http_response.status_code != 404:
            return
        # A request for one object has no prefix in its context.
        look = Request("s3:ListBucket", f"arn:aws:s3:::{context['bucket']}")
        if not _installed.authority[arn].allows(look):
            http_response.status_code = 403
            parsed["Error"] = {"Code": "AccessDenied", "Message": "Access Denied"}
            parsed["ResponseMetadata"]["HTTPStatusCode"] = 403

    client.meta.events.register("before-parameter-build.*.*", before)
    if service == "iam":
        client.meta.events.register("before-call.iam.*", _asked)
    if service == "s3":
        for name in ("GetObject", "HeadObject"):
            client.meta.events.register(f"after-call.s3.{name}", after)
    return client


def _asked(model: Any, context: Mapping[str, Any], **_: Any) -> Any:
    """IAM answers by the principals that are enforced."""
    if _installed is None or model.name not in iam.ANSWERED:
        return None
    answered = iam.answer(_installed.authority, ACCOUNT, model.name, context["given"])
    metadata = {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RequestId": "asked", "RetryAttempts": 0}
    return SimpleNamespace(status_code=200), {**answered, "ResponseMetadata": metadata}


def _act_by_roles() -> None:
    """Step Functions makes its clients by one function, which its modules have imported by name."""
    import pkgutil
    import sys
    from importlib import import_module

    from moto.stepfunctions.parser.asl.component.state.exec.state_task import service
    from moto.stepfunctions.parser.asl.utils import boto_client

    if getattr(boto_client.boto_client_for, "is_guarded", False):
        return
    for found in pkgutil.iter_modules(service.__path__):
        import_module(f"{service.__name__}.{found.name}")
    original = boto_client.boto_client_for

    def guarded(region: str, service: str, state_credentials: Any = None) -> Any:
        def make() -> Any:
            return original(region=region, service=service, state_credentials=state_credentials)

        return make() if _installed is None else client_of(service, state_credentials.role_arn, make, region)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    for module in list(sys.modules.values()):
        if vars(module).get("boto_client_for") is original:
            module.boto_client_for = guarded  # type: ignore[attr-defined]
