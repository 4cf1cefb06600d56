"""The door of the AWS server: whoever calls acts by the principal of the access key, and AWS's refusals come from here.

Requests are read by moto's own routers and parsers, so that the parameters are those of the operation's model.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError

from . import iam
from .authority import Request
from .enforcement import ACCOUNT, Enforcement, error, tags_of
from .permissions import Where
from .shared import ADMINISTRATOR, SharedAuthority

SERVICES = "ak"
"""The access key of moto's services when they call each other; ``enforcement.guard`` has checked those calls."""

_MODELS = {"states": "stepfunctions"}
"""Names of boto for services that sign by another one."""

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/aws4_request")

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Gate:
    """A WSGI application before moto's.

    :param application: moto's.
    :param enforcement: what is enforced.
    :param authority: whose access key is whose.
    :param administrator: the administrator's access key, who may also call what ``permissions`` does not know.
    """

    def __init__(
        self, application: Application, enforcement: Enforcement, authority: SharedAuthority, administrator: str
    ) -> None:
        self._application, self._enforcement, self._authority = application, enforcement, authority
        self._administrator = administrator

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith("/moto-api"):
            return self._application(environ, start_response)
        signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        if signed is None:
            problem = error("MissingAuthenticationToken", "Missing Authentication Token", "", 403)
            return _refuse("s3", problem, environ, start_response)
        key, region, signing = signed.groups()
        if key == SERVICES:
            return self._application(environ, start_response)
        service = _MODELS.get(signing, signing)
        try:
            arn, operation, given = self._checked(key, service, region, environ)
        except ClientError as problem:
            return _refuse(service, problem, environ, start_response)
        if service == "iam" and operation in iam.ANSWERED:
            body = iam.as_xml(operation, iam.answer(self._authority, ACCOUNT, operation, given))
            start_response("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
            return [body]
        if (service, operation) in (("s3", "GetObject"), ("s3", "HeadObject")):
            return self._object(arn, str(given["Bucket"]), environ, start_response)
        return self._application(environ, start_response)

    def _checked(
        self, key: str, service: str, region: str, environ: dict[str, Any]
    ) -> tuple[str, str, Mapping[str, Any]]:
        arn = ADMINISTRATOR if key == self._administrator else self._authority.owner_of(key)
        if arn is None:
            raise error("InvalidClientTokenId", "The security token included in the request is invalid.", "", 403)
        operation, given = _read(service, environ)
        try:
            self._enforcement.check(arn, service, operation, given, Where(ACCOUNT, region, tags_of))
        except AssertionError as unknown:
            # A call that ``permissions`` does not know.
            if arn != ADMINISTRATOR:
                raise error("AccessDenied", f"{arn}: {unknown}", operation, 403) from None
        return arn, operation, given

    def _object(self, arn: str, bucket: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Who may not list a bucket does not learn that an object is absent (S3, "GetObject", permissions)."""
        status: list[str] = []

        def remember(line: str, headers: Any, *others: Any) -> Any:
            status.append(line)
            return start_response(line, headers, *others) if not line.startswith("404") else lambda data: None

        body = self._application(environ, remember)
        if not status[0].startswith("404"):
            return body
        if not self._enforcement.authority[arn].allows(Request("s3:ListBucket", f"arn:aws:s3:::{bucket}")):
            return _refuse("s3", error("AccessDenied", "Access Denied", "GetObject", 403), environ, start_response)
        content = b"".join(body)
        start_response(status[0], [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))])
        return [content]


def _read(service: str, environ: dict[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the operation of a request and its parameters; of S3 without the body."""
    from moto.core.parse import PROTOCOL_PARSERS
    from moto.core.request import Request as HttpRequest
    from moto.core.request import determine_request_protocol
    from moto.core.routing import get_service_router
    from moto.core.utils import get_service_model
    from werkzeug.exceptions import NotFound

    if service != "s3":
        _keep_body(environ)
    request = HttpRequest(dict(environ), populate_request=False, shallow=service == "s3")
    model = get_service_model(service)
    try:
        operation, found = get_service_router(service).match(request)
    except (NotFound, NotImplementedError):
        raise error("UnknownOperationException", f"{service} has no such operation", "", 404) from None
    if service == "s3":
        names = {"prefix": "Prefix"}
        return operation.name, {**found, **{names[one]: text for one, text in request.args.items() if one in names}}
    parser = PROTOCOL_PARSERS[determine_request_protocol(model, request.content_type)](operation, map_type=dict)
    environ["wsgi.input"].seek(0)
    body = environ["wsgi.input"].read()
    parsed = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": body,
            "url_path": request.path,
            "url_params": found,
        }
    )
    environ["wsgi.input"].seek(0)
    return operation.name, parsed


def _keep_body(environ: dict[str, Any]) -> None:
    """Have a request's body in memory, to be read more than once."""
    size = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(size) if size else b"")


def _refuse(service: str, problem: ClientError, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with an error in the protocol of a service."""
    # A client that still sends its body sees no answer if the connection is closed.
    size = int(environ.get("CONTENT_LENGTH") or 0)
    if size and not isinstance(environ["wsgi.input"], io.BytesIO):
        environ["wsgi.input"].read(size)
    code, message = problem.response["Error"]["Code"], problem.response["Error"]["Message"]
    status = problem.response["ResponseMetadata"]["HTTPStatusCode"]
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        kind, text = "application/xml", f"<Error>{inner}</Error>"
    elif service in ("sns", "sqs", "sts", "iam", "ec2"):
        kind, text = "text/xml", f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error></ErrorResponse>"
    else:
        kind, text = "application/json", json.dumps({"__type": code, "message": message})
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-ErrorType", code)]
    start_response(f"{status} Refused", headers)
    return [body]
