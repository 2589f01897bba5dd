"""What an exception of the SDK, or of what it stands on, says of the attempt that raised it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import aiohttp
import anthropic
import httpx2

from claude_executor.core.model.failure import Failure, FailureKind, classify, ramp_quoted, resource_named
from claude_executor.core.model.headers import NO_HINTS, ResponseHints, parse
from claude_executor.sdk.outcome import FailedAttempt
from claude_executor.sdk.redaction import redacted

DETAIL_LENGTH = 400

CONNECTION_ERRORS = (httpx2.TransportError, aiohttp.ClientError, OSError)
"""What the SDK lets through from below, once the head of an answer is here."""

_MESSAGES = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/invoke",
    "/invoke-with-response-stream",
    ":rawPredict",
    ":streamRawPredict",
)
"""How the paths end that ask a model: of the API itself and its like, Amazon Bedrock, and Google Cloud."""

_NO_KEY = "Could not resolve authentication method"
"""How the `TypeError` begins that the SDK raises where it has no key."""
_OK = 200
_PART = "claude_executor.part"
"""Marks a response that is left to the attempt of which it is part."""


def failure_from(error: Exception, params: Mapping[str, object] | None = None) -> FailedAttempt:
    """The failed attempt that raised `error`.

    `params` is the request, which is not to be quoted; where it is not known, the API's words are left out.
    """
    return FailedAttempt(_failure(error, params), error)


def from_a_model(error: Exception) -> Exception | None:
    """What it tells of a request that asked a model for something; of a group of nothing else, the first.

    Everything else that somebody's function may raise says nothing of the model: a file or a batch that is
    gone, a website that is down, a database that cannot be reached.
    """
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        told = [from_a_model(each) for each in group.exceptions]
        return told[0] if None not in told else None
    if not isinstance(error, (anthropic.APIError, httpx2.RequestError)):
        return None
    # Asking one of httpx2's for a request that it has not got is an error.
    name = "_request" if isinstance(error, httpx2.RequestError) else "request"
    request = getattr(error, name, None)
    asked = isinstance(request, httpx2.Request) and request.url.path.endswith(_MESSAGES)
    return error if asked else None


def _failure(error: Exception, params: Mapping[str, object] | None) -> Failure:
    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(error, params)
    if isinstance(error, anthropic.APITimeoutError):
        return Failure(FailureKind.TIMEOUT, detail="no answer in time")
    if isinstance(error, (anthropic.APIConnectionError, *CONNECTION_ERRORS)):
        return _connection_failure(error)
    if isinstance(error, anthropic.APIResponseValidationError):
        return Failure(FailureKind.GARBLED, status=error.status_code, detail="the answer has an unknown form")
    if isinstance(error, anthropic.CredentialsError) or _lacks_key(error):
        return Failure(FailureKind.AUTHENTICATION, detail="there is no API key")
    return Failure(FailureKind.UNEXPECTED, detail=type(error).__name__)


def _lacks_key(error: Exception) -> bool:
    return isinstance(error, TypeError) and str(error).lstrip('"').startswith(_NO_KEY)


def _status_failure(error: anthropic.APIStatusError, params: Mapping[str, object] | None) -> Failure:
    # Only what the API says of itself; the body of a proxy's error page tells a person nothing.
    said = error.api_message or ""
    shown = "" if params is None else redacted(said, params)
    kind = classify(error.status_code, error.type, error.error_code, said)
    # An error within a stream comes with the headers of its beginning, which are old by now.
    advice = NO_HINTS if error.status_code == _OK else hints_of(error.response.headers)
    if _PART in error.response.extensions:
        advice = replace(advice, should_retry=None)
    return Failure(
        kind,
        advice,
        status=error.status_code,
        detail=shown[:DETAIL_LENGTH] or error.type or "",
        request_id=error.request_id,
        resource=resource_named(said) if kind is FailureKind.QUOTA else None,
        ramp=ramp_quoted(said) if kind is FailureKind.RAMP else None,
    )


def _connection_failure(error: BaseException) -> Failure:
    """Tell "could not connect" (surely not sent) from "the connection broke" (may have been answered)."""
    chain = list(_causes(error))
    for kind, detail, types in _CONNECTION_FAILURES:
        if any(isinstance(cause, types) for cause in chain):
            return Failure(kind, detail=detail)
    return Failure(FailureKind.UNEXPECTED, detail=type(chain[-1]).__name__)


# In this order: aiohttp's errors are the more exact ones, and the SDK's bridge to it calls a broken
# connection a failed one.
_CONNECTION_FAILURES: tuple[tuple[FailureKind, str, tuple[type[BaseException], ...]], ...] = (
    (
        FailureKind.UNREACHABLE,
        "no connection could be made",
        (aiohttp.ClientConnectorError, httpx2.UnsupportedProtocol),
    ),
    (FailureKind.TIMEOUT, "no answer in time", (httpx2.TimeoutException, TimeoutError)),
    (FailureKind.DROPPED, "the connection was lost before the answer was complete", (aiohttp.ClientError,)),
    (FailureKind.UNREACHABLE, "no connection could be made", (httpx2.ConnectError, httpx2.ProxyError)),
    (
        FailureKind.DROPPED,
        "the connection was lost before the answer was complete",
        (httpx2.TransportError, OSError),
    ),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def hints_of(headers: httpx2.Headers) -> ResponseHints:
    """What response headers advise; copied first, because looking one up in the SDK's scans all of them."""
    return parse({name.decode("ascii").lower(): value.decode("latin-1") for name, value in headers.raw})


def mark_nested(response: httpx2.Response) -> None:
    """Keep the SDK from trying again by itself what is part of an attempt, which will be made again."""
    if response.headers.get("x-should-retry") != "false":
        response.headers["x-should-retry"] = "false"
        response.extensions[_PART] = True
