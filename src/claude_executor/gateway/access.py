"""Access control: the gateway spends money through its own API key, so not every caller may use it."""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_executor.gateway.error_replies import ErrorReply

_FROM_WEB_PAGE = ErrorReply(
    403,
    "permission_error",
    "requests from web pages are refused because any page could spend your money; call the gateway from a "
    "server, or start it with --client-key and send that key",
)
_UNKNOWN_HOST = ErrorReply(
    403,
    "permission_error",
    "without client keys the gateway accepts only an IP address or localhost as its host name, because any "
    "web page can point a name at this machine; use its IP address, or start it with --client-key",
)
_WRONG_KEY = ErrorReply(
    401, "authentication_error", "invalid client key; set your SDK's API key to a client key of this gateway"
)


@dataclass(frozen=True, slots=True)
class Access:
    """The rules for who may use the gateway.

    Attributes:
        client_keys: The keys that clients may send as their API key, in ``x-api-key`` or as a bearer token,
            each with the name of its tenant (which may be empty). If there are none, every client that can
            reach the gateway may use it, except web pages: a browser sends their requests from a trusted
            machine on behalf of whatever site is open.
        any_host: Accept any host name although there are no client keys. By default only IP addresses and
            ``localhost`` are accepted, because a web page could make its own name resolve to this machine.
    """

    client_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    any_host: bool = False

    def __post_init__(self) -> None:
        if not all(key.strip() for key in self.client_keys):
            raise ValueError("client_keys contains an empty key, which any client could send; remove it")

    def authorize(self, headers: Mapping[str, str]) -> str | ErrorReply:
        """Return the tenant of a request with these headers, or the error reply that denies it."""
        if not self.client_keys:
            if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
                return _FROM_WEB_PAGE
            return "" if self.any_host or _is_address(headers.get("host", "")) else _UNKNOWN_HOST
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
        found: str | ErrorReply = _WRONG_KEY
        for key, name in self.client_keys.items():  # never stops early, so that timing reveals nothing
            # ASGI servers decode headers as Latin-1, whatever their encoding.
            if sum(hmac.compare_digest(key.encode(), one.encode("latin-1", "replace")) for one in given):
                found = name
        return found


def _is_address(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return not name  # HTTP/1.0 has no Host header, and no browser uses HTTP/1.0
    return True
