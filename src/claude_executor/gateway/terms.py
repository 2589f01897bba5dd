"""How a request stands among others, as its headers say.

``x-claude-executor-priority``
    A whole number; larger goes first.
``x-claude-executor-tenant``
    Requests of different tenants share the limits fairly.
``x-claude-executor-deadline``
    Seconds by which its last attempt must have started. By default what the client's SDK says it will wait:
    who would give up before its turn is told so at once, instead of asking again from the end of the line.
"""

import math
from collections.abc import Mapping

from claude_executor import Terms

PREFIX = "x-claude-executor-"
_PATIENCE = ("x-stainless-timeout", "x-stainless-read-timeout")
"""Seconds; the headers in which Anthropic's SDKs say it. That for Python has the first say nothing for most
streams."""


class BadHeader(ValueError):
    """A header does not say what it should."""


def terms_of(headers: Mapping[str, str], client: str = "") -> Terms:
    """The terms of a request with these headers, from a client of this name; who has one is no other tenant.

    Raises:
        BadHeader: One of them makes no sense.
    """
    priority = headers.get(PREFIX + "priority", "0")
    try:
        number = int(priority)
    except ValueError:
        raise BadHeader(f"{PREFIX}priority must be a whole number") from None
    told = headers.get(PREFIX + "deadline")
    deadline = patience_of(headers) if told is None else _seconds(told)
    if told is not None and deadline is None:
        raise BadHeader(f"{PREFIX}deadline must be a positive number of seconds")
    return Terms(number, client or headers.get(PREFIX + "tenant", ""), deadline)


def patience_of(headers: Mapping[str, str]) -> float | None:
    """How many seconds the client will wait, if its SDK says so."""
    return next(filter(None, (_seconds(headers.get(name)) for name in _PATIENCE)), None)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0.0 < seconds < math.inf else None
