"""HTTP headers: those forwarded to the API, those returned to the client, and the gateway's own.

Clients can set these, all optional:

``x-claude-executor-priority``
    An integer; requests with a larger one start first.
``x-claude-executor-tenant``
    A name; different tenants get fair shares of the limits.
``x-claude-executor-deadline``
    Seconds within which the last attempt must start. The default is the timeout that the client's SDK sends:
    a client that would give up before its turn gets an error immediately instead of queueing again later.
"""

import math
from collections.abc import Mapping

import httpx2

from claude_executor import RequestOptions

VIA = "via"
PREFIX = "x-claude-executor-"
_DROPPED_FROM_REQUEST = frozenset(
    {
        # hop-by-hop, or set again for the next hop
        "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "trailer",
        "transfer-encoding", "upgrade", VIA, "forwarded", "x-forwarded-for", "x-forwarded-host",
        "x-forwarded-proto", "x-real-ip",
        # for the gateway only
        "authorization", "cookie", "x-api-key",
    }
)  # fmt: skip
_DROPPED_PREFIXES = ("x-stainless-", PREFIX, "proxy-", "sec-")
_DROPPED_FROM_RESPONSE = frozenset(
    {
        # hop-by-hop, or about a body that may have been compressed
        "connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding", "alt-svc",
        # for the gateway only
        "set-cookie",
    }
)  # fmt: skip
_RETRY_COUNT = "x-stainless-retry-count"


def headers_for_api(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a client's request that are forwarded to the API."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return {
        name: value
        for name, value in headers.items()
        if name not in _DROPPED_FROM_REQUEST and name not in named and not name.startswith(_DROPPED_PREFIXES)
    }


def headers_for_client(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    """Return the headers of the API's response that go to the client, plus the number of attempts."""
    headers = [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower().decode("latin-1") not in _DROPPED_FROM_RESPONSE
    ]
    attempts = int(response.request.headers.get(_RETRY_COUNT, "0")) + 1
    return [*headers, (f"{PREFIX}attempts".encode(), str(attempts).encode())]


_TIMEOUT_HEADERS = ("x-stainless-timeout", "x-stainless-read-timeout")
"""The headers in which Anthropic's SDKs send their timeout, in seconds. The Python SDK leaves the first one
empty for most streams."""


class BadHeader(ValueError):
    """A header of a request has an invalid value; the message names the header."""


def options_of(headers: Mapping[str, str], client: str = "") -> RequestOptions:
    """Return the options of a request with these headers.

    Args:
        headers: The request's headers.
        client: The tenant of the client key, which overrides the tenant in the headers; empty if it has none.

    Raises:
        BadHeader: The priority or the deadline is not a valid number.
    """
    priority = headers.get(PREFIX + "priority", "0")
    try:
        number = int(priority)
    except ValueError:
        raise BadHeader(f"{PREFIX}priority must be an integer, such as 1") from None
    given = headers.get(PREFIX + "deadline")
    deadline = client_timeout(headers) if given is None else _seconds(given)
    if given is not None and deadline is None:
        raise BadHeader(f"{PREFIX}deadline must be a positive number of seconds, such as 30")
    return RequestOptions(number, client or headers.get(PREFIX + "tenant", ""), deadline)


def client_timeout(headers: Mapping[str, str]) -> float | None:
    """Return the timeout that the client's SDK sent, in seconds; None if it sent none."""
    return next(filter(None, (_seconds(headers.get(name)) for name in _TIMEOUT_HEADERS)), None)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0.0 < seconds < math.inf else None
