"""What went wrong, and what follows from it: again or not, when, and at whose expense.

Three questions about every failed attempt, each answered in one place:

* *What was it?* `classify` names the failure from what the API says, in the order in which the API's
  documentation allows one to rely on it: HTTP status, `error.type`, `error.details.error_code`; the message
  only where nothing else tells two cases apart.
* *What does it mean?* `TREATMENT` is a table with one row for each kind.
* *When again?* `RetryPolicy.delay`: full jitter, ``u * min(cap, base * 2**k)``. A `retry-after` is obeyed and
  never undercut; jitter is only ever added to it, for a hundred jobs told "7" must not come back as one.

`RetryBudget` bounds the sum: retries may be a fifth of recent requests, so that a struggling API gets 1.2
times the load and not six times.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType

from claude_executor.core.cost import Resource

MOST_JITTER = 2.0
"""Seconds."""


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
class RetryPolicy:
    """When a failed attempt is made again.

    Attributes:
        max_attempts: Attempts that count (see `Treatment.counts`) before a request fails.
        base: Seconds within which the first retry falls; doubled for every further one.
        cap: Seconds within which any retry falls.
        budget: Retries allowed, as a fraction of requests.
        stops: Whether an answer that others would meet as well (a wrong key, a spent limit, a model that does
            not exist, no connection to begin with) has those refused unsent for a minute. Without, each meets
            it for itself: for a service, whose clients are not to pay for what one of them asks for.
    """

    max_attempts: int = 6
    base: float = 1.0
    cap: float = 30.0
    budget: float = 0.2
    stops: bool = True

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not (self.base > 0 and self.cap > 0 and self.budget >= 0):
            raise ValueError(f"base and cap must be positive seconds and budget not negative, got {self}")

    def delay(self, retries: int, u: float, *, hint: float | None = None) -> float:
        """Seconds to wait before the next attempt.

        Args:
            retries: Retries already made of this request.
            u: A number from [0, 1).
            hint: The API's `retry-after` in seconds: the wait is never shorter than it.
        """
        if hint is not None:
            return not_before(hint, u)
        return u * min(self.cap, self.base * 2.0 ** min(retries, 32))


def not_before(hint: float, u: float) -> float:
    """Seconds to wait where `hint` were asked for: a little longer, never shorter, and not all at once.

    After `MOST_JITTER` the buckets keep requests apart.
    """
    return hint + u * min(MOST_JITTER, 0.05 + 0.1 * hint)


class RetryBudget:
    """How many retries may be under way: a fraction of the executor's requests, and a small trickle.

    A retry takes one and gets it back if it succeeds; every request earns `fraction`; besides, `TRICKLE` a
    second is earned up to `FLOOR`, so that a quiet executor can retry too. Nothing fails for want of budget:
    a retry waits until `ready_at`.
    """

    TRICKLE = 1.0
    FLOOR = 10.0
    CEILING = 100.0

    __slots__ = ("_at", "_fraction", "_level")

    def __init__(self, fraction: float, now: float) -> None:
        self._fraction = fraction
        self._level = self.FLOOR
        self._at = now

    def ready_at(self, now: float) -> float:
        """The instant from which one retry may be made."""
        self._refill(now)
        return now if self._level >= 1.0 else self._at + (1.0 - self._level) / self.TRICKLE

    def take(self, now: float) -> None:
        """One retry is made."""
        self._refill(now)
        self._level -= 1.0

    def earn(self, now: float, *, succeeded_retry: bool = False) -> None:
        """A request was sent for the first time or, if `succeeded_retry`, a retry was answered."""
        self._refill(now)
        self._level = min(self.CEILING, self._level + (1.0 if succeeded_retry else self._fraction))

    def _refill(self, now: float) -> None:
        if now > self._at:
            if self._level < self.FLOOR:
                self._level = min(self.FLOOR, self._level + self.TRICKLE * (now - self._at))
            self._at = now
