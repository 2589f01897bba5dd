"""The kinds of failure: how each is recognised, and what each means for the request and for others."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType

from claude_executor.core.model.cost import Resource, Usage
from claude_executor.core.model.headers import NO_ADVICE, Advice


class Kind(StrEnum):
    """What went wrong with an attempt."""

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
    """How far a failure reaches beyond the request that met it."""

    REQUEST = "this request"
    MODEL = "this model"
    EVERYTHING = "all requests"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a kind of failure means.

    Attributes:
        retry: Whether the same request may succeed later.
        counts: Whether the attempt counts towards `RetryPolicy.max_attempts`. Being told to wait is not a
            failed attempt, and an overloaded API says nothing about the request.
        overload: Whether it is evidence that the service is struggling (circuit breaker, concurrency).
        refund: Whether the API is taken not to have charged the request to any limit.
        scope: What else would fail the same way.
    """

    retry: bool
    counts: bool = True
    overload: bool = False
    refund: bool = False
    scope: Scope = Scope.REQUEST


TREATMENT: Mapping[Kind, Treatment] = MappingProxyType(
    {
        Kind.QUOTA: Treatment(retry=True, counts=False, refund=True),
        Kind.RAMP: Treatment(retry=True, counts=False, refund=True),
        Kind.SPEND_LIMIT: Treatment(retry=False, refund=True, scope=Scope.EVERYTHING),
        Kind.BILLING: Treatment(retry=False, refund=True, scope=Scope.EVERYTHING),
        Kind.AUTHENTICATION: Treatment(retry=False, refund=True, scope=Scope.EVERYTHING),
        Kind.PERMISSION: Treatment(retry=False, refund=True, scope=Scope.MODEL),
        Kind.NOT_FOUND: Treatment(retry=False, refund=True, scope=Scope.MODEL),
        Kind.INVALID: Treatment(retry=False, refund=True),
        Kind.TOO_LARGE: Treatment(retry=False, refund=True),
        Kind.NOT_IMPLEMENTED: Treatment(retry=False, refund=True),
        Kind.CONFLICT: Treatment(retry=True),
        Kind.OVERLOADED: Treatment(retry=True, counts=False, overload=True, refund=True),
        Kind.SERVER: Treatment(retry=True, overload=True),
        Kind.TIMEOUT: Treatment(retry=True, overload=True),
        Kind.UNREACHABLE: Treatment(retry=True, overload=True, refund=True),
        Kind.DROPPED: Treatment(retry=True, overload=True),
        Kind.TRUNCATED: Treatment(retry=True, overload=True),
        Kind.GARBLED: Treatment(retry=True, overload=True),
        Kind.UNEXPECTED: Treatment(retry=False),
    }
)

_SPEND_CODES = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
_SPEND_MESSAGES = ("you have reached your specified", "you have reached your api usage limits")
_CREDIT_MESSAGE = "your credit balance is too low"
_ON_HOLD_CODE = "organization_on_hold"

_BY_STATUS: Mapping[int, Kind] = MappingProxyType(
    {
        400: Kind.INVALID,
        401: Kind.AUTHENTICATION,
        402: Kind.BILLING,
        403: Kind.PERMISSION,
        404: Kind.NOT_FOUND,
        408: Kind.TIMEOUT,
        409: Kind.CONFLICT,
        413: Kind.TOO_LARGE,
        429: Kind.QUOTA,
        501: Kind.NOT_IMPLEMENTED,
        504: Kind.TIMEOUT,
        529: Kind.OVERLOADED,
    }
)
_BY_TYPE: Mapping[str, Kind] = MappingProxyType(
    {
        "rate_limit_error": Kind.QUOTA,
        "overloaded_error": Kind.OVERLOADED,
        "api_error": Kind.SERVER,
        "timeout_error": Kind.TIMEOUT,
        "billing_error": Kind.BILLING,
        "authentication_error": Kind.AUTHENTICATION,
        "permission_error": Kind.PERMISSION,
        "not_found_error": Kind.NOT_FOUND,
        "invalid_request_error": Kind.INVALID,
        "request_too_large": Kind.TOO_LARGE,
        "conflict_error": Kind.CONFLICT,
    }
)


def classify(status: int, type_: str | None = None, code: str | None = None, message: str = "") -> Kind:
    """Name the failure that an HTTP answer stands for.

    Args:
        status: HTTP status; 200 where the error came inside a stream, in which case `type_` decides.
        type_: ``error.type`` of the body, if it had one.
        code: ``error.details.error_code``, if it had one.
        message: ``error.message``; looked at only for the spend limits, which share status and type with
            errors of quite another kind.
    """
    text = message.lower()
    if code == "ramp_limit_exceeded":
        return Kind.RAMP
    if code in _SPEND_CODES or text.startswith(_SPEND_MESSAGES):
        return Kind.SPEND_LIMIT
    if _CREDIT_MESSAGE in text or (code is not None and code.startswith("linked_organization_")):
        return Kind.BILLING
    if code == _ON_HOLD_CODE:
        return Kind.AUTHENTICATION
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 300:
        return _BY_TYPE.get(type_ or "", Kind.SERVER)
    return Kind.SERVER if status >= 500 else Kind.INVALID


def resource_named(message: str) -> Resource | None:
    """The resource that the message of a 429 names, if it names one."""
    for words, resource in _NAMED.items():
        if words in message:
            return resource
    return None


def growth_quoted(message: str) -> tuple[float, float] | None:
    """What the message of a 429 for growth says this minute and the next may use, if it says so."""
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
    """How an attempt failed.

    Attributes:
        kind: What went wrong.
        advice: What the response headers say, if there was a response.
        status: HTTP status, if there was a response.
        detail: The API's own words, for people; never a prompt, an answer or a key.
        request_id: The API's id of the exchange, if it gave one.
        resource: The resource that a 429 names.
        growth: What the 429 for too steep a rise says this minute and the next may use.
        usage: Tokens spent before it failed, where known.
    """

    kind: Kind
    advice: Advice = NO_ADVICE
    status: int | None = None
    detail: str = ""
    request_id: str | None = None
    resource: Resource | None = None
    growth: tuple[float, float] | None = None
    usage: Usage | None = None

    @property
    def sent(self) -> bool:
        """Whether the API may have been given the request."""
        return self.status is not None or self.kind not in (Kind.UNREACHABLE, Kind.AUTHENTICATION)
