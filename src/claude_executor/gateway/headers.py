"""Headers: which go on to the API, which come back, and what those for the gateway itself ask for.

``x-claude-executor-priority``
    A whole number; larger goes first.
``x-claude-executor-tenant``
    Requests of different tenants share the limits fairly.
``x-claude-executor-deadline``
    Seconds by which the last attempt must have started. The default is how long the client's SDK says it
    waits: a client that would give up before its turn is refused at once instead of queueing again later.
"""

import math
from collections.abc import Mapping

import httpx2

from claude_executor import RequestOptions

VIA = "via"
PREFIX = "x-claude-executor-"
_NOT_SENT_ON = frozenset(
    {
        # of the hop before, or written anew for the next
        "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "trailer",
        "transfer-encoding", "upgrade", VIA, "forwarded", "x-forwarded-for", "x-forwarded-host",
        "x-forwarded-proto", "x-real-ip",
        # between the client and the gateway
        "authorization", "cookie", "x-api-key",
    }
)  # fmt: skip
_PREFIXES_NOT_SENT_ON = ("x-stainless-", PREFIX, "proxy-", "sec-")
_NOT_PASSED_BACK = frozenset(
    {
        # of the hop behind, where the body may have been compressed
        "connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding", "alt-svc",
        # between the gateway and the API
        "set-cookie",
    }
)  # fmt: skip
_RETRIES = "x-stainless-retry-count"


def sent_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a client's request that are meant for the API."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return {
        name: value
        for name, value in headers.items()
        if name not in _NOT_SENT_ON and name not in named and not name.startswith(_PREFIXES_NOT_SENT_ON)
    }


def passed_back(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    """The headers of the API's answer that are meant for the client, and how many attempts it took."""
    headers = [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower().decode("latin-1") not in _NOT_PASSED_BACK
    ]
    attempts = int(response.request.headers.get(_RETRIES, "0")) + 1
    return [*headers, (f"{PREFIX}attempts".encode(), str(attempts).encode())]


_TIMEOUT_HEADERS = ("x-stainless-timeout", "x-stainless-read-timeout")
"""Seconds; the headers in which Anthropic's SDKs say it. That for Python has the first say nothing for most
streams."""


class BadHeader(ValueError):
    """A header does not say what it should."""


def options_of(headers: Mapping[str, str], client: str = "") -> RequestOptions:
    """The options of a request with these headers, from a client of this name; who has one is no other tenant.

    Raises:
        BadHeader: One of them makes no sense.
    """
    priority = headers.get(PREFIX + "priority", "0")
    try:
        number = int(priority)
    except ValueError:
        raise BadHeader(f"{PREFIX}priority must be a whole number") from None
    told = headers.get(PREFIX + "deadline")
    deadline = client_timeout(headers) if told is None else _seconds(told)
    if told is not None and deadline is None:
        raise BadHeader(f"{PREFIX}deadline must be a positive number of seconds")
    return RequestOptions(number, client or headers.get(PREFIX + "tenant", ""), deadline)


def client_timeout(headers: Mapping[str, str]) -> float | None:
    """How many seconds the client will wait, if its SDK says so."""
    return next(filter(None, (_seconds(headers.get(name)) for name in _TIMEOUT_HEADERS)), None)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0.0 < seconds < math.inf else None
