"""Every answer that is not a success, as data: status, body and the headers that go with it.

Wording keeps what clients rely on (the phrases by which the causes are told apart) and is otherwise our own.
"""

import time
from dataclasses import dataclass
from typing import Literal

import orjson

from claude_executor.simulator.limits.pools import Shortage
from claude_executor.simulator.world.faults import Faults

ORGANIZATION = "5f9c1b62-3d58-4f0e-9a1c-7d0c0e2f5a11"
WORKSPACE = "wrkspc_01SimuLatedWorkspaceXXXX"

Shown = Literal["limits", "identity", "nothing"]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is not a success.

    Attributes:
        status: HTTP status.
        kind: ``error.type`` of the body; empty for a page of HTML.
        message: ``error.message``, or the page's title.
        cause: Our own word for it, in statistics.
        code: ``error.details.error_code``, if the API sends one.
        retry_after: The ``retry-after`` header in seconds; ``None`` sends none.
        shown: Which headers are sent: all of the limits', only the ids, or none of the API's.
        final: Whether a well-behaved client never sends the same request again.
        should_retry: The ``x-should-retry`` header; ``None`` sends none.
    """

    status: int
    kind: str
    message: str
    cause: str
    code: str | None = None
    retry_after: int | None = None
    shown: Shown = "identity"
    final: bool = False
    should_retry: bool | None = None

    def body(self, request_id: str) -> tuple[bytes, bytes]:
        """The body and its content type."""
        if not self.kind:
            page = f"<html>\r\n<head><title>{self.status} {self.message}</title></head>\r\n<body>\r\n"
            page += f"<center><h1>{self.status} {self.message}</h1></center>\r\n</body>\r\n</html>\r\n"
            return page.encode(), b"text/html"
        error: dict[str, object] = {"type": self.kind, "message": self.message}
        error["details"] = {"error_code": self.code} if self.code else None
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id}), b"application/json"


def invalid_request(message: str) -> ErrorResponse:
    """400: the request itself is wrong."""
    return ErrorResponse(400, "invalid_request_error", message, "invalid_request", final=True)


def unknown_model(model: str) -> ErrorResponse:
    """404: no such model."""
    return ErrorResponse(404, "not_found_error", f"model: {model}", "not_found", final=True)


NO_SUCH_PATH = ErrorResponse(404, "not_found_error", "Not Found", "not_found", final=True)
WRONG_METHOD = ErrorResponse(
    405, "invalid_request_error", "Method Not Allowed", "invalid_request", final=True
)
TOO_LARGE = ErrorResponse(413, "", "Request Entity Too Large", "too_large", shown="nothing", final=True)
NO_KEY = ErrorResponse(
    401,
    "authentication_error",
    "x-api-key header or Authorization bearer token is required",
    "authentication",
    final=True,
)
WRONG_KEY = ErrorResponse(401, "authentication_error", "invalid x-api-key", "authentication", final=True)
NOT_ADMIN = ErrorResponse(403, "permission_error", "An Admin API key is required.", "permission", final=True)

OVERLOADED = ErrorResponse(529, "overloaded_error", "Overloaded", "overloaded")

BY_CHANCE: dict[str, ErrorResponse] = {
    "error_500": ErrorResponse(500, "api_error", "Internal server error", "error_500"),
    "error_502": ErrorResponse(502, "api_error", "Bad gateway", "error_502"),
    "error_502_html": ErrorResponse(502, "", "Bad Gateway", "error_502_html", shown="nothing"),
    "error_503": ErrorResponse(503, "api_error", "Service unavailable", "error_503"),
    "error_504": ErrorResponse(504, "timeout_error", "The request timed out", "error_504"),
    "overloaded": OVERLOADED,
    "rate_limited_plain": ErrorResponse(
        429, "rate_limit_error", "Too busy, please slow down.", "rate_limited_plain", shown="nothing"
    ),
}
"""Answers that strike single requests by chance, by the fault's name."""

_SPEND_MESSAGE = (
    "You have reached your API usage limits: your organization has crossed its monthly API usage threshold. "
    "You will regain access on {month} at 00:00 UTC."
)
_SELF_SET_MESSAGE = (
    "You have reached your specified API usage limits. You will regain access on {month} at 00:00 UTC."
)


def episode(faults: Faults, wall: float) -> ErrorResponse | None:
    """The answer that every request gets at present, if there is one (outages apart).

    Args:
        faults: The world as it is.
        wall: Unix time.
    """
    if faults.invalid_key:
        return WRONG_KEY
    if faults.permission_403:
        return ErrorResponse(
            403, "permission_error", "Your API key may not use this resource.", "permission", final=True
        )
    if faults.billing_402:
        return ErrorResponse(
            402, "billing_error", "There is a problem with your billing details.", "billing", final=True
        )
    if faults.credit_400:
        message = "Your credit balance is too low to access the Claude API. Please go to Plans & Billing."
        return ErrorResponse(400, "invalid_request_error", message, "credit", final=True)
    if faults.spend_limit_400:
        message = _SELF_SET_MESSAGE.format(month=_next_month(wall))
        return ErrorResponse(400, "invalid_request_error", message, "spend_limit", final=True)
    if faults.spend_cap or faults.contract_spend:
        code = "enforced_spend_limit_reached" if faults.spend_cap else "contract_spend_limit_reached"
        cause = "spend_cap" if faults.spend_cap else "contract_spend"
        message = _SPEND_MESSAGE.format(month=_next_month(wall))
        return ErrorResponse(429, "rate_limit_error", message, cause, code=code, final=True)
    return None


def _next_month(wall: float) -> str:
    moment = time.gmtime(wall)
    months = moment.tm_year * 12 + moment.tm_mon
    return f"{months // 12:04d}-{months % 12 + 1:02d}-01"


def outage(faults: Faults) -> ErrorResponse:
    """The 529 of an outage."""
    hint = faults.outage_retry_after
    return ErrorResponse(529, "overloaded_error", "Overloaded", "outage", retry_after=hint)


_UNITS = {"requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}


def over_limit(short: Shortage, model: str) -> ErrorResponse:
    """The 429 of a limit, or of too steep a climb."""
    if short.cause == "ramp":
        message = (
            "This request would exceed your organization's maximum usage increase rate for input tokens "
            f"per minute (org: {ORGANIZATION}, model: {model}). Your current limit is {short.limit:,} input "
            f"tokens per minute, and will increase to {short.following:,} at the next minute boundary. "
            "Please scale up your usage more gradually."
        )
        code = "ramp_limit_exceeded"
    else:
        message = (
            f"This request would exceed the rate limit for your organization ({ORGANIZATION}) of "
            f"{short.limit:,} {_UNITS[short.resource]} per minute. Your current usage is in the response "
            "headers. Please reduce the prompt length or the maximum tokens requested, or try again later."
        )
        code = None
    return ErrorResponse(
        429,
        "rate_limit_error",
        message,
        f"rate_limit_{short.cause}",
        code=code,
        retry_after=short.retry_after,
        shown="limits",
        should_retry=True,
    )
