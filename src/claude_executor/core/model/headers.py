"""Parser of the rate-limit and retry headers of the API's responses.

``anthropic-ratelimit-{requests,input-tokens,output-tokens}-{limit,remaining,reset}`` come with every answer
and every 429. `reset` is a time of day, so it is read as a span after the `Date` header of the same response,
independent of this machine's clock. ``anthropic-ratelimit-tokens-*`` is no fourth bucket: it repeats the
shortest of the others, and is ignored.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from claude_executor.core.model.cost import Resource

_HEADER = {
    Resource.REQUESTS: "anthropic-ratelimit-requests",
    Resource.INPUT: "anthropic-ratelimit-input-tokens",
    Resource.OUTPUT: "anthropic-ratelimit-output-tokens",
}
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {m: i for i, m in enumerate(_MONTH_NAMES, start=1)}


@dataclass(frozen=True, slots=True)
class LimitQuote:
    """Limit and level of one resource, as the API quotes them.

    Attributes:
        limit: Amount per minute.
        remaining: Amount left; rounded to thousands for tokens, and never below 0 even in debt.
        full_in: Seconds until the bucket is full again, to a second's accuracy; None if not quoted.
    """

    limit: float
    remaining: float
    full_in: float | None


@dataclass(frozen=True, slots=True)
class ResponseHints:
    """Hints in the headers of one response about when to send what.

    Attributes:
        quotes: Quoted limits and levels, by resource.
        retry_after: Seconds to wait before a retry; None if the API does not say.
        should_retry: Value of ``x-should-retry``; None if the API does not say.
    """

    quotes: Mapping[Resource, LimitQuote]
    retry_after: float | None = None
    should_retry: bool | None = None


NO_HINTS = ResponseHints({})


def parse(headers: Mapping[str, str]) -> ResponseHints:
    """Parse response headers (names in lower case). Missing or malformed ones are left out."""
    sent_at = _instant(headers.get("date"))
    quotes: dict[Resource, LimitQuote] = {}
    for resource, name in _HEADER.items():
        limit, remaining = _number(headers.get(f"{name}-limit")), _number(headers.get(f"{name}-remaining"))
        if limit is None or remaining is None or limit <= 0:
            continue
        full_at = _instant(headers.get(f"{name}-reset"))
        full_in = None if full_at is None or sent_at is None else max(0.0, full_at - sent_at)
        quotes[resource] = LimitQuote(limit, remaining, full_in)
    should = headers.get("x-should-retry")
    return ResponseHints(
        quotes, _retry_after(headers, sent_at), {"true": True, "false": False}.get(should or "")
    )


def _retry_after(headers: Mapping[str, str], sent_at: float | None) -> float | None:
    """Return the wait in seconds; None for 0, as in the SDK, which must not replace our own backoff."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000.0
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and sent_at is not None and (at := _instant(text)) is not None:
        seconds = max(0.0, at - sent_at)
    return seconds or None


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


@lru_cache(maxsize=64)
def _instant(text: str | None) -> float | None:
    """Return an RFC 3339 or HTTP date as seconds since 1970, cached: few dates differ at a time."""
    if not text:
        return None
    try:
        if text[3:5] == ", ":
            day, month, year, clock = text[5:25].split(" ")
            hour, minute, second = clock.split(":")
            at = datetime(
                int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
        else:
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
    except (ValueError, KeyError):
        return None
    return at.timestamp()
