"""Who may use the gateway: it spends the money of the key that it adds."""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_executor.gateway.refusals import ErrorReply

_NOT_FROM_A_PAGE = ErrorReply(
    403,
    "permission_error",
    "requests from web pages are refused, for any page could spend your money: call the gateway from a "
    "server, or have it ask for a client key",
)
_ANOTHER_NAME = ErrorReply(
    403,
    "permission_error",
    "without a client key the gateway answers to an address or localhost only, for any web page can give "
    "this machine a name of its own: call it by its address, or have it ask for a client key",
)
_ANOTHER_KEY = ErrorReply(401, "authentication_error", "the gateway wants a client key as the API key")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the gateway.

    Attributes:
        client_keys: What clients must send as their API key, in ``x-api-key`` or as a bearer token: any of
            these, each with the name of the tenant that has it, which may be empty. Without any, whoever can
            reach the gateway may use it, except a web page: a browser sends those requests from the very
            machine that is trusted, on behalf of whatever site is open there.
        any_host: Whether, without client keys, it answers to whatever name it is called by. Otherwise a page
            whose own name was made to lead to this machine could ask as if it were from there.
    """

    client_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    any_host: bool = False

    def __post_init__(self) -> None:
        if not all(key.strip() for key in self.client_keys):
            raise ValueError("an empty client key keeps nobody out")

    def admit(self, headers: Mapping[str, str]) -> str | ErrorReply:
        """The name of the tenant whose request has these headers, or why it is refused."""
        if not self.client_keys:
            if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
                return _NOT_FROM_A_PAGE
            return "" if self.any_host or _is_address(headers.get("host", "")) else _ANOTHER_NAME
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
        found: str | ErrorReply = _ANOTHER_KEY
        for key, name in self.client_keys.items():  # all of them: how long it takes tells nothing
            # ASGI reads headers as Latin-1, whatever they are.
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
        return not name  # HTTP/1.0 tells no host, and no browser speaks it
    return True
