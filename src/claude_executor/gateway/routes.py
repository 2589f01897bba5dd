"""What becomes of a request, by its path: decided once, on the very text that is sent on.

A path that could be written more simply (``//``, ``/./``, letters as ``%65``) is refused: what is one
thing here and as another further on would be a way around the limits.
"""

from enum import Enum, auto
from urllib.parse import quote, unquote

OWN = "/claude-executor/"
_AS_IT_IS = "/:@!$&'()*+,;="
"""Marks that may stand in a path without being encoded; besides letters, digits and ``-._~``."""


class Route(Enum):
    """What becomes of a request."""

    PACED = auto()
    """Draws on a limit that the executor keeps, and waits for its turn."""
    PASSED_ON = auto()
    """Is sent on at once: it has limits of its own, or none."""
    UNPACED = auto()
    """Draws on the limits of messages in a form that the executor does not know."""
    OWN = auto()
    """Is answered by the gateway itself."""
    NOT_SERVED = auto()


_EXACT = {
    "/v1/messages": Route.PACED,
    "/v1/messages/count_tokens": Route.PACED,
    "/v1/complete": Route.UNPACED,
    "/v1/chat/completions": Route.UNPACED,
}


def route_of(method: str, path: str) -> Route:
    """What becomes of a request with this method and this path, as it was sent and without the query."""
    if path.startswith(OWN):
        return Route.OWN
    if not path.startswith("/v1/") or not _is_plain(path):
        return Route.NOT_SERVED
    route = _EXACT.get(path, Route.PASSED_ON)
    return Route.PASSED_ON if route is Route.PACED and method != "POST" else route


def _is_plain(path: str) -> bool:
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        return False
    return quote(unquote(path), safe=_AS_IT_IS).lower() == path.lower()
