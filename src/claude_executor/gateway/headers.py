"""Which headers go on to the API, and which come back."""

from collections.abc import Mapping

import httpx2

from claude_executor.gateway.terms import PREFIX

VIA = "via"
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
