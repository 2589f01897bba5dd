"""Who may use the gateway: it spends the money of the key that it adds."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_executor.gateway.refusals import Refusal

_NOT_FROM_A_PAGE = Refusal(
    403,
    "permission_error",
    "requests from web pages are refused, for any page could spend your money: call the gateway from a "
    "server, or have it ask for a client key",
)
_ANOTHER_KEY = Refusal(401, "authentication_error", "this gateway wants its own client key as the API key")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the gateway.

    Attributes:
        client_key: What clients must send as their API key, in ``x-api-key`` or as a bearer token. With
            `None`, whoever can reach the gateway may use it, except a web page: a browser sends those
            requests from the very machine that is trusted, on behalf of whatever site is open there.
    """

    client_key: str | None = field(default=None, repr=False)

    def refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request with these headers is refused, if it is."""
        if self.client_key is None:
            from_page = "origin" in headers or headers.get("sec-fetch-site", "none") != "none"
            return _NOT_FROM_A_PAGE if from_page else None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
        wanted = self.client_key.encode()
        known = [hmac.compare_digest(key.encode("utf-8", "surrogateescape"), wanted) for key in given]
        return None if any(known) else _ANOTHER_KEY
