"""What a client is told when its request is not answered by the API: errors in the API's own form.

SDKs try again by themselves whatever has a status of 408, 409, 429 or 5xx, unless ``x-should-retry`` says not
to. What the executor has tried as often as makes sense says that; what may be answered soon says when; of the
rest, which was tried once or not at all, the SDK is left to judge.
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
"""What the API itself says with an ``overloaded_error``."""
SOON = 5.0
"""Seconds; for what may pass, where it is not known when."""


class ErrorReply(NamedTuple):
    """An answer of the gateway's own.

    Attributes:
        status: Of HTTP.
        type: What the API calls such an error.
        message: For a person.
        again: Whether the client is to try again by itself; `None` leaves it to the client.
        after: In how many seconds, at the earliest.
    """

    status: int
    type: str
    message: str
    again: bool | None = False
    after: float | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """For HTTP."""
        headers = [(b"content-type", b"application/json")]
        if self.again is not None:
            headers.append((b"x-should-retry", b"true" if self.again else b"false"))
        if self.after is not None:
            headers.append((b"retry-after", str(math.ceil(self.after)).encode()))
        return headers

    @property
    def body(self) -> bytes:
        """As the API writes errors."""
        return orjson.dumps({"type": "error", "error": {"type": self.type, "message": self.message}})

    @property
    def event(self) -> bytes:
        """The same within a stream."""
        return b"event: error\ndata: " + self.body + b"\n\n"


_UNREACHABLE = (502, "api_error")
_STOPPED = {
    FailureKind.AUTHENTICATION: (401, "authentication_error"),
    FailureKind.BILLING: (402, "billing_error"),
    FailureKind.SPEND_LIMIT: (429, "rate_limit_error"),
    FailureKind.PERMISSION: (403, "permission_error"),
    FailureKind.NOT_FOUND: (404, "not_found_error"),
}
_FINAL: dict[type[Rejected], tuple[int, str]] = {
    DeadlineExceeded: (504, "timeout_error"),
    TooLarge: (413, "request_too_large"),
    SpendingCapReached: (402, "billing_error"),
}
_PASSING: dict[type[Rejected], tuple[int, str]] = {
    QueueFull: (OVERLOADED, "overloaded_error"),
    BudgetUnreachable: (503, "api_error"),
    Closed: (503, "api_error"),
}


def error_reply_for(error: Exception, *, again: bool | None = False) -> ErrorReply | None:
    """What a client is told of an error that is no answer of the API's; `None` if it is a mistake of ours.

    `again` is for errors that say nothing of it themselves.
    """
    if isinstance(error, Rejected):
        return _rejected(error)
    if isinstance(error, Failed):
        return ErrorReply(error.status or 502, "api_error", str(error), again)
    if isinstance(error, (anthropic.APITimeoutError, httpx2.TimeoutException)):
        message = "the API has not answered in time; allow it more, or ask for a stream"
        return ErrorReply(504, "timeout_error", message, again)
    if isinstance(error, (anthropic.APIConnectionError, httpx2.TransportError)):
        message = "the API cannot be reached, or has broken off its answer"
        return ErrorReply(*_UNREACHABLE, message, again)
    return None


def _rejected(error: Rejected) -> ErrorReply:
    message = str(error)
    if type(error) in _PASSING:
        return ErrorReply(*_PASSING[type(error)], message, again=True, after=error.retry_after or SOON)
    if isinstance(error, Stopped):
        return ErrorReply(*_STOPPED.get(error.kind, _UNREACHABLE), message)
    return ErrorReply(*_FINAL.get(type(error), _UNREACHABLE), message)
