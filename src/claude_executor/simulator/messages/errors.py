"""Every error response as data: status, body and headers.

The messages keep the phrases of the API by which clients distinguish causes. The other words are ours.
"""

import time
from dataclasses import dataclass
from typing import Literal

import orjson

from claude_executor.simulator.limits.pools import Shortage
from claude_executor.simulator.world.faults import Faults

ORGANIZATION = "5f9c1b62-3d58-4f0e-9a1c-7d0c0e2f5a11"
WORKSPACE = "wrkspc_01SimuLatedWorkspaceXXXX"

HeaderSet = Literal["limits", "identity", "nothing"]
"""The API headers of a response: the limits and the ids, the ids alone, or none."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """A response that reports an error.

    Attributes:
        status: The HTTP status.
        kind: ``error.type`` of the body; empty for an HTML page.
        message: ``error.message``, or the page's title.
        cause: The name of the error in the statistics.
        code: ``error.details.error_code``, if the API sends one.
        retry_after: The ``retry-after`` header in seconds; ``None`` sends none.
        header_set: The API headers to send.
        permanent: Whether repeating the request cannot help, so that a well-behaved client never does.
        should_retry: The ``x-should-retry`` header; ``None`` sends none.
    """

    status: int
    kind: str
    message: str
    cause: str
    code: str | None = None
    retry_after: int | None = None
    header_set: HeaderSet = "identity"
    permanent: bool = False
    should_retry: bool | None = None

    def body(self, request_id: str) -> tuple[bytes, bytes]:
        """Return the body and its content type."""
        if not self.kind:
            page = f"<html>\r\n<head><title>{self.status} {self.message}</title></head>\r\n<body>\r\n"
            page += f"<center><h1>{self.status} {self.message}</h1></center>\r\n</body>\r\n</html>\r\n"
            return page.encode(), b"text/html"
        error: dict[str, object] = {"type": self.kind, "message": self.message}
        error["details"] = {"error_code": self.code} if self.code else None
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id}), b"application/json"


def invalid_request(message: str) -> ErrorResponse:
    """Return the 400 for an invalid request."""
    return ErrorResponse(400, "invalid_request_error", message, "invalid_request", permanent=True)


def unknown_model(model: str) -> ErrorResponse:
    """Return the 404 for an unknown model."""
    return ErrorResponse(404, "not_found_error", f"model: {model}", "not_found", permanent=True)


NO_SUCH_PATH = ErrorResponse(404, "not_found_error", "Not Found", "not_found", permanent=True)
WRONG_METHOD = ErrorResponse(
    405, "invalid_request_error", "Method Not Allowed", "invalid_request", permanent=True
)
TOO_LARGE = ErrorResponse(
    413, "", "Request Entity Too Large", "too_large", header_set="nothing", permanent=True
)
NO_KEY = ErrorResponse(
    401,
    "authentication_error",
    "x-api-key header or Authorization bearer token is required",
    "authentication",
    permanent=True,
)
WRONG_KEY = ErrorResponse(401, "authentication_error", "invalid x-api-key", "authentication", permanent=True)
NOT_ADMIN = ErrorResponse(
    403, "permission_error", "An Admin API key is required.", "permission", permanent=True
)

OVERLOADED = ErrorResponse(529, "overloaded_error", "Overloaded", "overloaded")

RANDOM_ERRORS: dict[str, ErrorResponse] = {
    "error_500": ErrorResponse(500, "api_error", "Internal server error", "error_500"),
    "error_502": ErrorResponse(502, "api_error", "Bad gateway", "error_502"),
    "error_502_html": ErrorResponse(502, "", "Bad Gateway", "error_502_html", header_set="nothing"),
    "error_503": ErrorResponse(503, "api_error", "Service unavailable", "error_503"),
    "error_504": ErrorResponse(504, "timeout_error", "The request timed out", "error_504"),
    "overloaded": OVERLOADED,
    "rate_limited_plain": ErrorResponse(
        429, "rate_limit_error", "Too busy, please slow down.", "rate_limited_plain", header_set="nothing"
    ),
}
"""The errors that hit single requests at random, by the name of the fault."""

_SPEND_MESSAGE = (
    "You have reached your API usage limits: your organization has crossed its monthly API usage threshold. "
    "You will regain access on {month} at 00:00 UTC."
)
_SELF_SET_MESSAGE = (
    "You have reached your specified API usage limits. You will regain access on {month} at 00:00 UTC."
)


def organization_error(faults: Faults, wall: float) -> ErrorResponse | None:
    """Return the error that every request gets now; ``None`` if there is none. Outages are not included.

    Args:
        faults: The faults in force.
        wall: The current Unix time.
    """
    if faults.invalid_key:
        return WRONG_KEY
    if faults.permission_403:
        return ErrorResponse(
            403, "permission_error", "Your API key may not use this resource.", "permission", permanent=True
        )
    if faults.billing_402:
        return ErrorResponse(
            402, "billing_error", "There is a problem with your billing details.", "billing", permanent=True
        )
    if faults.credit_400:
        message = "Your credit balance is too low to access the Claude API. Please go to Plans & Billing."
        return ErrorResponse(400, "invalid_request_error", message, "credit", permanent=True)
    if faults.spend_limit_400:
        message = _SELF_SET_MESSAGE.format(month=_next_month(wall))
        return ErrorResponse(400, "invalid_request_error", message, "spend_limit", permanent=True)
    if faults.spend_cap or faults.contract_spend:
        code = "enforced_spend_limit_reached" if faults.spend_cap else "contract_spend_limit_reached"
        cause = "spend_cap" if faults.spend_cap else "contract_spend"
        message = _SPEND_MESSAGE.format(month=_next_month(wall))
        return ErrorResponse(429, "rate_limit_error", message, cause, code=code, permanent=True)
    return None


def _next_month(wall: float) -> str:
    moment = time.gmtime(wall)
    months = moment.tm_year * 12 + moment.tm_mon
    return f"{months // 12:04d}-{months % 12 + 1:02d}-01"


def outage(faults: Faults) -> ErrorResponse:
    """Return the 529 of an outage."""
    hint = faults.outage_retry_after
    return ErrorResponse(529, "overloaded_error", "Overloaded", "outage", retry_after=hint)


_UNITS = {"requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}


def over_limit(shortage: Shortage, model: str) -> ErrorResponse:
    """Return the 429 of a rate limit or of the ramp limit."""
    if shortage.cause == "ramp":
        message = (
            "This request would exceed your organization's maximum usage increase rate for input tokens "
            f"per minute (org: {ORGANIZATION}, model: {model}). Your current limit is {shortage.limit:,} "
            f"input tokens per minute, and will increase to {shortage.following:,} at the next minute "
            "boundary. Please scale up your usage more gradually."
        )
        code = "ramp_limit_exceeded"
    else:
        message = (
            f"This request would exceed the rate limit for your organization ({ORGANIZATION}) of "
            f"{shortage.limit:,} {_UNITS[shortage.resource]} per minute. Your current usage is in the "
            "response headers. Please reduce the prompt length or the maximum tokens requested, or try again "
            "later."
        )
        code = None
    return ErrorResponse(
        429,
        "rate_limit_error",
        message,
        f"rate_limit_{shortage.cause}",
        code=code,
        retry_after=shortage.retry_after,
        header_set="limits",
        should_retry=True,
    )
