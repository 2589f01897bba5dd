"""Response headers, exactly as the documentation and recorded responses have them.

Remaining tokens are rounded to the nearest thousand and never negative; remaining requests are exact.
``…-reset`` is the time when the bucket will be *full* again, as RFC 3339 in whole seconds (truncating
fractions is a guess that fits the samples). ``…-tokens-*`` is the sum of input and output; its reset is the
earlier of the two (two samples).
"""

import time
from functools import lru_cache

from claude_executor.simulator.limits.buckets import LimitBucket
from claude_executor.simulator.limits.pools import LimitPool
from claude_executor.simulator.messages.errors import ORGANIZATION, WORKSPACE

Header = tuple[bytes, bytes]

_Names = tuple[bytes, bytes, bytes]


def _names(resource: bytes) -> _Names:
    prefix = b"anthropic-ratelimit-" + resource
    return prefix + b"-limit", prefix + b"-remaining", prefix + b"-reset"


_REQUESTS, _TOKENS = _names(b"requests"), _names(b"tokens")
_INPUT_TOKENS, _OUTPUT_TOKENS = _names(b"input-tokens"), _names(b"output-tokens")

_IDS: list[Header] = [
    (b"anthropic-organization-id", ORGANIZATION.encode()),
    (b"anthropic-workspace-id", WORKSPACE.encode()),
]


@lru_cache(maxsize=4_096)
def rfc3339(second: int) -> bytes:
    """Format Unix seconds as ``2026-10-08T14:51:42Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)).encode()


@lru_cache(maxsize=16)
def http_date(second: int) -> bytes:
    """Format Unix seconds as the ``Date`` header does."""
    moment = time.gmtime(second)
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    day, month = days[moment.tm_wday], months[moment.tm_mon - 1]
    clock = time.strftime("%H:%M:%S", moment)
    return f"{day}, {moment.tm_mday:02d} {month} {moment.tm_year} {clock} GMT".encode()


def identity(request_id: str, wall: float) -> list[Header]:
    """Return the headers that every response of the API carries."""
    return [
        (b"date", http_date(int(wall))),
        (b"server", b"cloudflare"),
        (b"request-id", request_id.encode()),
    ]


def organization() -> list[Header]:
    """Return the ids of the organization, sent on every response to a request whose key was accepted."""
    return _IDS


def limits(pool: LimitPool, now: float, wall: float) -> list[Header]:
    """Return the rate-limit headers of one pool at this instant. Unlimited resources have none."""
    found: list[Header] = []
    if pool.requests is not None:
        level = pool.requests.level(now)
        _triple(
            found,
            _REQUESTS,
            pool.requests.per_minute,
            max(0, int(level + 1e-6)),
            _reset(pool.requests, now, wall),
        )
    both = pool.input_tokens is not None and pool.output_tokens is not None
    total = left = 0
    resets: list[int] = []
    for names, bucket in ((_INPUT_TOKENS, pool.input_tokens), (_OUTPUT_TOKENS, pool.output_tokens)):
        if bucket is None:
            continue
        remaining = nearest_thousand(bucket.level(now))
        reset = _reset(bucket, now, wall)
        _triple(found, names, bucket.per_minute, remaining, reset)
        total += bucket.per_minute
        left += remaining
        resets.append(reset)
    if both:
        _triple(found, _TOKENS, total, left, min(resets))
    return found


def nearest_thousand(level: float) -> int:
    """Round remaining tokens as the headers do: to the nearest thousand, half up, never negative."""
    return max(0, int(level + 500) // 1_000 * 1_000)


def _reset(bucket: LimitBucket, now: float, wall: float) -> int:
    return int(wall + bucket.full_in(now))


def _triple(found: list[Header], names: _Names, limit: int, remaining: int, reset: int) -> None:
    found.append((names[0], b"%d" % limit))
    found.append((names[1], b"%d" % remaining))
    found.append((names[2], rfc3339(reset)))
