"""Kinds of failure: how each is recognized, and what it means for this request and others."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType

from claude_executor.core.model.cost import Resource, Usage
from claude_executor.core.model.headers import NO_HINTS, ResponseHints


class FailureKind(StrEnum):
    """Kind of failure of an attempt.

    The value is the name shown to people.
    """

    QUOTA = "rate limit"
    RAMP = "usage grew too fast"
    SPEND_LIMIT = "spend limit reached"
    BILLING = "billing"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not found"
    INVALID = "invalid request"
    TOO_LARGE = "request too large"
    NOT_IMPLEMENTED = "not implemented"
    CONFLICT = "conflict"
    OVERLOADED = "overloaded"
    SERVER = "server error"
    TIMEOUT = "timeout"
    UNREACHABLE = "no connection"
    DROPPED = "connection dropped"
    TRUNCATED = "stream ended early"
    GARBLED = "unreadable answer"
    UNEXPECTED = "unexpected error"


class Scope(Enum):
    """Reach of a failure beyond the request that met it."""

    REQUEST = "this request"
    MODEL = "this model"
    EVERYTHING = "all requests"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """Consequences of a kind of failure.

    Attributes:
        retry: Whether the same request may succeed later.
        counts: Whether the attempt counts towards `RetryPolicy.max_attempts`. A 429 is no failed
            attempt, and an overloaded API says nothing about the request.
        overload: Whether the failure is evidence that the service is struggling (circuit breaker,
            concurrency).
        refund: Whether the request is assumed to count towards no limit of the API.
        scope: Which other requests would fail the same way.
    """

    retry: bool
    counts: bool = True
    overload: bool = False
    refund: bool = False
    scope: Scope = Scope.REQUEST


FAILURE_POLICIES: Mapping[FailureKind, FailurePolicy] = MappingProxyType(
    {
        FailureKind.QUOTA: FailurePolicy(retry=True, counts=False, refund=True),
        FailureKind.RAMP: FailurePolicy(retry=True, counts=False, refund=True),
        FailureKind.SPEND_LIMIT: FailurePolicy(retry=False, refund=True, scope=Scope.EVERYTHING),
        FailureKind.BILLING: FailurePolicy(retry=False, refund=True, scope=Scope.EVERYTHING),
        FailureKind.AUTHENTICATION: FailurePolicy(retry=False, refund=True, scope=Scope.EVERYTHING),
        FailureKind.PERMISSION: FailurePolicy(retry=False, refund=True, scope=Scope.MODEL),
        FailureKind.NOT_FOUND: FailurePolicy(retry=False, refund=True, scope=Scope.MODEL),
        FailureKind.INVALID: FailurePolicy(retry=False, refund=True),
        FailureKind.TOO_LARGE: FailurePolicy(retry=False, refund=True),
        FailureKind.NOT_IMPLEMENTED: FailurePolicy(retry=False, refund=True),
        FailureKind.CONFLICT: FailurePolicy(retry=True),
        FailureKind.OVERLOADED: FailurePolicy(retry=True, counts=False, overload=True, refund=True),
        FailureKind.SERVER: FailurePolicy(retry=True, overload=True),
        FailureKind.TIMEOUT: FailurePolicy(retry=True, overload=True),
        FailureKind.UNREACHABLE: FailurePolicy(retry=True, overload=True, refund=True),
        FailureKind.DROPPED: FailurePolicy(retry=True, overload=True),
        FailureKind.TRUNCATED: FailurePolicy(retry=True, overload=True),
        FailureKind.GARBLED: FailurePolicy(retry=True, overload=True),
        FailureKind.UNEXPECTED: FailurePolicy(retry=False),
    }
)

_SPEND_CODES = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
_SPEND_MESSAGES = ("you have reached your specified", "you have reached your api usage limits")
_CREDIT_MESSAGE = "your credit balance is too low"
_ON_HOLD_CODE = "organization_on_hold"

_BY_STATUS: Mapping[int, FailureKind] = MappingProxyType(
    {
        400: FailureKind.INVALID,
        401: FailureKind.AUTHENTICATION,
        402: FailureKind.BILLING,
        403: FailureKind.PERMISSION,
        404: FailureKind.NOT_FOUND,
        408: FailureKind.TIMEOUT,
        409: FailureKind.CONFLICT,
        413: FailureKind.TOO_LARGE,
        429: FailureKind.QUOTA,
        501: FailureKind.NOT_IMPLEMENTED,
        504: FailureKind.TIMEOUT,
        529: FailureKind.OVERLOADED,
    }
)
_BY_TYPE: Mapping[str, FailureKind] = MappingProxyType(
    {
        "rate_limit_error": FailureKind.QUOTA,
        "overloaded_error": FailureKind.OVERLOADED,
        "api_error": FailureKind.SERVER,
        "timeout_error": FailureKind.TIMEOUT,
        "billing_error": FailureKind.BILLING,
        "authentication_error": FailureKind.AUTHENTICATION,
        "permission_error": FailureKind.PERMISSION,
        "not_found_error": FailureKind.NOT_FOUND,
        "invalid_request_error": FailureKind.INVALID,
        "request_too_large": FailureKind.TOO_LARGE,
        "conflict_error": FailureKind.CONFLICT,
    }
)


def classify(
    status: int, type_: str | None = None, code: str | None = None, message: str = ""
) -> FailureKind:
    """Return the kind of failure that an HTTP answer stands for.

    Args:
        status: HTTP status; 200 where the error came inside a stream, in which case `type_` decides.
        type_: ``error.type`` of the body, if it had one.
        code: ``error.details.error_code``, if it had one.
        message: ``error.message``; looked at only for the spend limits, which share status and type with
            errors of other kinds.
    """
    text = message.lower()
    if code == "ramp_limit_exceeded":
        return FailureKind.RAMP
    if code in _SPEND_CODES or text.startswith(_SPEND_MESSAGES):
        return FailureKind.SPEND_LIMIT
    if _CREDIT_MESSAGE in text or (code is not None and code.startswith("linked_organization_")):
        return FailureKind.BILLING
    if code == _ON_HOLD_CODE:
        return FailureKind.AUTHENTICATION
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 300:
        return _BY_TYPE.get(type_ or "", FailureKind.SERVER)
    return FailureKind.SERVER if status >= 500 else FailureKind.INVALID


def resource_named(message: str) -> Resource | None:
    """Return the resource that the message of a 429 names; None if it names none."""
    for words, resource in _NAMED.items():
        if words in message:
            return resource
    return None


def ramp_quoted(message: str) -> tuple[float, float] | None:
    """Return the input tokens that a ramp-limit message quotes for this minute and the next, if any."""
    found = _GROWTH.search(message)
    if found is None:
        return None
    current, following = (float(number.replace(",", "")) for number in found.groups())
    return current, following


_GROWTH = re.compile(r"current limit is (\d[\d,]*).*?increase to (\d[\d,]*)", re.DOTALL)
_NAMED: Mapping[str, Resource] = MappingProxyType(
    {
        "input tokens per minute": Resource.INPUT,
        "output tokens per minute": Resource.OUTPUT,
        "requests per minute": Resource.REQUESTS,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure of one attempt.

    Attributes:
        kind: The kind of failure.
        hints: Hints in the response headers; empty without a response.
        status: HTTP status, if there was a response.
        detail: The API's own words, for people; never a prompt, an answer or a key.
        request_id: The API's id of the exchange, if it gave one.
        resource: The resource that a 429 names.
        ramp: Input tokens that a ramp-limit 429 allows this minute and the next.
        usage: Tokens used before the failure, if known.
    """

    kind: FailureKind
    hints: ResponseHints = NO_HINTS
    status: int | None = None
    detail: str = ""
    request_id: str | None = None
    resource: Resource | None = None
    ramp: tuple[float, float] | None = None
    usage: Usage | None = None

    @property
    def sent(self) -> bool:
        """Whether the API may have received the request."""
        return self.status is not None or self.kind not in (
            FailureKind.UNREACHABLE,
            FailureKind.AUTHENTICATION,
        )
