"""Error replies of the gateway itself, in the API's own error format.

SDKs retry a status of 408, 409, 429 or 5xx unless the header ``x-should-retry`` says otherwise. The gateway
sends ``false`` for a request that the executor has already retried, and ``true`` with ``retry-after`` for a
condition that will pass soon. A forwarded request was sent only once, so it gets no such header: the SDK
decides.
"""

import math
from typing import NamedTuple

import anthropic
import httpx2
import orjson

from claude_executor import (
    BudgetUnreachable,
    Closed,
    DeadlineExceeded,
    Failed,
    FailureKind,
    QueueFull,
    Rejected,
    SpendingCapReached,
    Stopped,
    TooLarge,
)

OVERLOADED = 529
"""The status that the API sends with an ``overloaded_error``."""
DEFAULT_RETRY_AFTER = 5.0
"""Seconds after which to retry a condition that will pass, if its end is unknown."""


class ErrorReply(NamedTuple):
    """An error response that the gateway itself sends.

    Attributes:
        status: The HTTP status.
        type: The API's name of such an error.
        message: The text for people: what is wrong, and what to do.
        should_retry: Whether the client's SDK should retry; None leaves it to the SDK.
        retry_after: Seconds to wait before a retry; None if there is nothing to wait for.
    """

    status: int
    type: str
    message: str
    should_retry: bool | None = False
    retry_after: float | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the response, but for its length."""
        headers = [(b"content-type", b"application/json")]
        if self.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        if self.retry_after is not None:
            headers.append((b"retry-after", str(math.ceil(self.retry_after)).encode()))
        return headers

    @property
    def body(self) -> bytes:
        """The response body, in the API's error format."""
        return orjson.dumps({"type": "error", "error": {"type": self.type, "message": self.message}})

    @property
    def event(self) -> bytes:
        """The error as a server-sent event, for a stream that has already begun."""
        return b"event: error\ndata: " + self.body + b"\n\n"


_UNREACHABLE = (502, "api_error")
_STOPPED = {
    FailureKind.AUTHENTICATION: (401, "authentication_error"),
    FailureKind.BILLING: (402, "billing_error"),
    FailureKind.SPEND_LIMIT: (429, "rate_limit_error"),
    FailureKind.PERMISSION: (403, "permission_error"),
    FailureKind.NOT_FOUND: (404, "not_found_error"),
}
_PERMANENT: dict[type[Rejected], tuple[int, str]] = {
    DeadlineExceeded: (504, "timeout_error"),
    TooLarge: (413, "request_too_large"),
    SpendingCapReached: (402, "billing_error"),
}
_TRANSIENT: dict[type[Rejected], tuple[int, str]] = {
    QueueFull: (OVERLOADED, "overloaded_error"),
    BudgetUnreachable: (503, "api_error"),
    Closed: (503, "api_error"),
}


def error_reply_for(error: Exception, *, should_retry: bool | None = False) -> ErrorReply | None:
    """Return the reply for an error that is not a response of the API; None for a bug in the gateway.

    Args:
        error: The exception that ended the request.
        should_retry: The advice to the client's SDK, for errors that do not decide it themselves.
    """
    if isinstance(error, Rejected):
        return _rejected(error)
    if isinstance(error, Failed):
        return ErrorReply(error.status or 502, "api_error", str(error), should_retry)
    if isinstance(error, (anthropic.APITimeoutError, httpx2.TimeoutException)):
        message = "the API did not respond in time; raise your client's timeout, or use streaming"
        return ErrorReply(504, "timeout_error", message, should_retry)
    if isinstance(error, (anthropic.APIConnectionError, httpx2.TransportError)):
        message = "the gateway could not reach the API, or its response ended early; retry later"
        return ErrorReply(*_UNREACHABLE, message, should_retry)
    return None


def _rejected(error: Rejected) -> ErrorReply:
    message = str(error)
    if type(error) in _TRANSIENT:
        return ErrorReply(
            *_TRANSIENT[type(error)],
            message,
            should_retry=True,
            retry_after=error.retry_after or DEFAULT_RETRY_AFTER,
        )
    if isinstance(error, Stopped):
        return ErrorReply(*_STOPPED.get(error.kind, _UNREACHABLE), message)
    return ErrorReply(*_PERMANENT.get(type(error), _UNREACHABLE), message)
