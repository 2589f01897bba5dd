"""Routing by path: decided once, on exactly the text that is forwarded.

Paths that are not in their simplest form (``//``, ``/./``, letters as ``%65``) are not served: if the gateway
and the API read a path differently, clients could bypass the limits.
"""

from enum import Enum, auto
from urllib.parse import quote, unquote

OWN = "/claude-executor/"
_UNENCODED = "/:@!$&'()*+,;="
"""The characters that a path may contain unencoded, besides letters, digits and ``-._~``."""


class Route(Enum):
    """The gateway's treatment of a request."""

    PACED = auto()
    """Queued: the request uses a limit that the executor keeps."""
    FORWARDED = auto()
    """Forwarded immediately: the endpoint has limits of its own, or none."""
    CANNOT_PACE = auto()
    """Not served: the endpoint uses the limits of messages in a format that the executor does not know."""
    OWN = auto()
    """Served by the gateway itself."""
    NOT_SERVED = auto()
    """Not served: the path is unknown."""


_EXACT = {
    "/v1/messages": Route.PACED,
    "/v1/messages/count_tokens": Route.PACED,
    "/v1/complete": Route.CANNOT_PACE,
    "/v1/chat/completions": Route.CANNOT_PACE,
}


def route_of(method: str, path: str) -> Route:
    """Return the route of a request.

    Args:
        method: The HTTP method, in capitals.
        path: The path as the client sent it, still encoded, without the query.
    """
    if path.startswith(OWN):
        return Route.OWN
    if not path.startswith("/v1/") or not _is_plain(path):
        return Route.NOT_SERVED
    route = _EXACT.get(path, Route.FORWARDED)
    return Route.FORWARDED if route is Route.PACED and method != "POST" else route


def _is_plain(path: str) -> bool:
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        return False
    return quote(unquote(path), safe=_UNENCODED).lower() == path.lower()
