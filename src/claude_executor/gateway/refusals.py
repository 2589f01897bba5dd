"""What a client is told when its request is not answered by the API: errors in the API's own form.

SDKs try again by themselves whatever has a status of 408, 409, 429 or 5xx, unless ``x-should-retry`` says not
to. The executor has tried as often as makes sense, so most errors say that; those that a later request may
well not meet say when it may come.
"""

import math
from typing import NamedTuple

import anthropic
import orjson

from claude_executor import (
    BudgetSpent,
    BudgetUnreachable,
    Closed,
    DeadlineExceeded,
    ExecutorError,
    Failed,
    Kind,
    QueueFull,
    Rejected,
    Stopped,
    TooLarge,
)

OVERLOADED = 529
"""What the API itself says with an ``overloaded_error``."""

_Headers = list[tuple[str, str]]


class Refusal(NamedTuple):
    """An answer of the gateway's own.

    Attributes:
        status: Of HTTP.
        type: What the API calls such an error.
        message: For a person.
        retry_after: Seconds after which the same request may be answered; `None` if trying again by itself
            would not help.
    """

    status: int
    type: str
    message: str
    retry_after: float | None = None

    @property
    def headers(self) -> _Headers:
        """For HTTP."""
        again = "false" if self.retry_after is None else "true"
        headers = [("content-type", "application/json"), ("x-should-retry", again)]
        if self.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(self.retry_after))))
        return headers

    @property
    def body(self) -> bytes:
        """As the API writes errors."""
        return orjson.dumps({"type": "error", "error": {"type": self.type, "message": self.message}})

    @property
    def event(self) -> bytes:
        """The same within a stream."""
        return b"event: error\ndata: " + self.body + b"\n\n"


_STOPPED = {
    Kind.AUTHENTICATION: (401, "authentication_error"),
    Kind.BILLING: (402, "billing_error"),
    Kind.SPEND_LIMIT: (429, "rate_limit_error"),
    Kind.PERMISSION: (403, "permission_error"),
    Kind.NOT_FOUND: (404, "not_found_error"),
}
_LATER = 5.0
"""Seconds; for what may pass, where it is not known when."""


def refusal_of(error: Exception) -> Refusal:
    """What a client is told of an error that is no answer of the API's."""
    if isinstance(error, Rejected):
        return _rejected(error)
    if isinstance(error, anthropic.APITimeoutError):
        return Refusal(
            504, "timeout_error", "the API has not answered in time; allow it more, or use a stream"
        )
    if isinstance(error, anthropic.APIConnectionError):
        return Refusal(502, "api_error", "the API cannot be reached, or has broken off its answer")
    if isinstance(error, ExecutorError):
        status = error.status if isinstance(error, Failed) else None
        return Refusal(status or 502, "api_error", str(error))
    return Refusal(500, "api_error", f"the gateway has met an error of its own ({type(error).__name__})")


def _rejected(error: Rejected) -> Refusal:
    message, after = str(error), error.retry_after
    if isinstance(error, QueueFull):
        return Refusal(OVERLOADED, "overloaded_error", message, after or _LATER)
    if isinstance(error, (BudgetUnreachable, Closed)):
        return Refusal(503, "api_error", message, after or _LATER)
    if isinstance(error, DeadlineExceeded):
        return Refusal(504, "timeout_error", message)
    if isinstance(error, TooLarge):
        return Refusal(413, "request_too_large", message)
    if isinstance(error, BudgetSpent):
        return Refusal(402, "billing_error", message)
    status, type_ = (
        _STOPPED.get(error.kind, (502, "api_error")) if isinstance(error, Stopped) else (502, "api_error")
    )
    return Refusal(status, type_, message)
