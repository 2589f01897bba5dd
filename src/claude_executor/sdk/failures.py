"""Classifies the exceptions of the SDK and of the layers below it as failed attempts."""

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import aiohttp
import anthropic
import httpx2

from claude_executor.core.model.failure import Failure, FailureKind, classify, ramp_quoted, resource_named
from claude_executor.core.model.headers import NO_HINTS, ResponseHints, parse
from claude_executor.sdk.outcome import FailedAttempt
from claude_executor.sdk.redaction import redacted
from claude_executor.sdk.validation import NO_KEY

DETAIL_LENGTH = 400

CONNECTION_ERRORS = (httpx2.TransportError, aiohttp.ClientError, OSError)
"""Exceptions of lower layers that the SDK lets through once the head of a response is here."""

_MESSAGES = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/invoke",
    "/invoke-with-response-stream",
    ":rawPredict",
    ":streamRawPredict",
)
"""Ends of the paths of requests to a model: of the API, Amazon Bedrock and Google Cloud."""

_LACKS_KEY = "Could not resolve authentication method"
"""Beginning of the `TypeError` that the SDK raises if it has no key."""
_OK = 200
_PART = "claude_executor.part"
"""Marks a response that is part of an attempt, which alone is retried."""


def failure_from(error: Exception, params: Mapping[str, object] | None = None) -> FailedAttempt:
    """Return the failed attempt that raised `error`.

    `params` is the request, which must not be quoted; if it is not known, the API's words are left out.
    """
    return FailedAttempt(_failure(error, params), error)


def from_a_model(error: Exception) -> Exception | None:
    """Return the error if it is about a request to a model; of a group of nothing else, the first.

    Other exceptions say nothing about the model: a missing file or batch, a website or database that is down.
    """
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        found = [from_a_model(each) for each in group.exceptions]
        return found[0] if None not in found else None
    if not isinstance(error, (anthropic.APIError, httpx2.RequestError)):
        return None
    request = _request_of(error)
    return error if request is not None and request.url.path.endswith(_MESSAGES) else None


def _failure(error: Exception, params: Mapping[str, object] | None) -> Failure:
    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(error, params)
    if isinstance(error, anthropic.APITimeoutError):
        return Failure(FailureKind.TIMEOUT, detail="no response in time")
    if isinstance(error, (anthropic.APIConnectionError, *CONNECTION_ERRORS)):
        return _connection_failure(error)
    if isinstance(error, anthropic.APIResponseValidationError):
        return Failure(
            FailureKind.GARBLED, status=error.status_code, detail="the response has an unknown form"
        )
    if isinstance(error, anthropic.CredentialsError) or _lacks_key(error):
        return Failure(FailureKind.AUTHENTICATION, detail=NO_KEY)
    return Failure(FailureKind.UNEXPECTED, detail=type(error).__name__)


def _lacks_key(error: Exception) -> bool:
    return isinstance(error, TypeError) and str(error).lstrip('"').startswith(_LACKS_KEY)


def _status_failure(error: anthropic.APIStatusError, params: Mapping[str, object] | None) -> Failure:
    # Only the message of the API; the body of a proxy's error page is of no use to a person.
    said = error.api_message or ""
    shown = "" if params is None else redacted(said, params)
    kind = classify(error.status_code, error.type, error.error_code, said)
    # An error within a stream comes with the headers of its beginning, which are old by now.
    hints = NO_HINTS if error.status_code == _OK else hints_of(error.response.headers)
    if _PART in error.response.extensions:
        hints = replace(hints, should_retry=None)
    return Failure(
        kind,
        hints,
        status=error.status_code,
        detail=shown[:DETAIL_LENGTH] or error.type or "",
        request_id=error.request_id,
        resource=resource_named(said) if kind is FailureKind.QUOTA else None,
        ramp=ramp_quoted(said) if kind is FailureKind.RAMP else None,
    )


def _connection_failure(error: BaseException) -> Failure:
    """Distinguish "could not connect" (surely not sent) from "connection lost" (may have been answered)."""
    chain = list(_causes(error))
    for kind, types in _CONNECTION_FAILURES:
        if any(isinstance(cause, types) for cause in chain):
            detail = _unreachable(chain) if kind is FailureKind.UNREACHABLE else _CONNECTION_DETAILS[kind]
            return Failure(kind, detail=detail)
    return Failure(FailureKind.UNEXPECTED, detail=type(chain[-1]).__name__)


_CONNECTION_DETAILS = {
    FailureKind.TIMEOUT: "no response in time",
    FailureKind.DROPPED: "the connection was lost before the response was complete",
}
# In this order: aiohttp's errors are the more exact ones, and the SDK's bridge to it calls a broken
# connection a failed one.
_CONNECTION_FAILURES: tuple[tuple[FailureKind, tuple[type[BaseException], ...]], ...] = (
    (FailureKind.UNREACHABLE, (aiohttp.ClientConnectorError, httpx2.UnsupportedProtocol)),
    (FailureKind.TIMEOUT, (httpx2.TimeoutException, TimeoutError)),
    (FailureKind.DROPPED, (aiohttp.ClientError,)),
    (FailureKind.UNREACHABLE, (httpx2.ConnectError, httpx2.ProxyError)),
    (FailureKind.DROPPED, (httpx2.TransportError, OSError)),
)
_CONNECTION_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its TLS certificate cannot be verified"),
    (ssl.SSLError, "the TLS handshake failed (is it http://?)"),
    (aiohttp.ClientConnectorDNSError, "the host name cannot be resolved"),
    (socket.gaierror, "the host name cannot be resolved"),
    (ConnectionRefusedError, "connection refused"),
    (httpx2.UnsupportedProtocol, "the URL must begin with https:// or http://"),
    (httpx2.ProxyError, "the proxy failed"),
)


def _unreachable(chain: Sequence[BaseException]) -> str:
    """Return one line that names the host that cannot be connected to, and the cause."""
    request = next((each for cause in chain if (each := _request_of(cause)) is not None), None)
    where = "the API"
    if request is not None:  # without a path, and without a password that may stand before the host
        where = f"{request.url.scheme}://{request.url.netloc.decode('ascii', 'replace')}"
    # aiohttp keeps the cause as an attribute, and does not always chain it.
    causes = [*chain, *(inner for cause in chain if (inner := getattr(cause, "os_error", None)) is not None)]
    for known, said in _CONNECTION_CAUSES:
        if any(isinstance(cause, known) for cause in causes):
            return f"cannot connect to {where}: {said}"
    return f"cannot connect to {where}"


def _request_of(error: BaseException) -> httpx2.Request | None:
    # httpx2 raises where an error is asked for a request that it does not have.
    name = "_request" if isinstance(error, httpx2.RequestError) else "request"
    request: object = getattr(error, name, None)
    return request if isinstance(request, httpx2.Request) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def hints_of(headers: httpx2.Headers) -> ResponseHints:
    """Parse response headers; copied first, because a look-up in the SDK's headers scans all of them."""
    return parse({name.decode("ascii").lower(): value.decode("latin-1") for name, value in headers.raw})


def mark_nested(response: httpx2.Response) -> None:
    """Keep the SDK from retrying a response by itself: it is part of an attempt, which will be retried."""
    if response.headers.get("x-should-retry") != "false":
        response.headers["x-should-retry"] = "false"
        response.extensions[_PART] = True
