"""Builds the HTTP client and the SDK client that this package sends requests with."""

import anthropic
import httpx2

from claude_executor.core.model.failure import FailureKind
from claude_executor.errors import Stopped

FEWEST_CONNECTIONS = 1_000
"""Connections in a pool, at least: as many as the SDK's own. `reconfigure` may raise the concurrency later,
and a pool cannot grow."""
CONNECT_TIMEOUT = 15.0
"""Seconds. More than the SDK's 5: a burst opens hundreds of connections at once, on a busy machine."""


def default_http_client(connections: int) -> anthropic.DefaultAioHttpClient:
    """Return an HTTP client on aiohttp with room for `connections`, and for `FEWEST_CONNECTIONS` at least.

    aiohttp takes a half to a third of the processor time of the SDK's default at hundreds in flight.
    """
    connections = max(FEWEST_CONNECTIONS, connections)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return anthropic.DefaultAioHttpClient(limits=limits)


def default_client(
    *, max_concurrency: int, api_key: str | None, base_url: str | None
) -> anthropic.AsyncAnthropic:
    """Return the client of an executor that was given none: no retries, a connection per request in flight.

    Raises:
        Stopped: The profile or the file that the API key comes from is missing or malformed.
    """
    http_client = default_http_client(max_concurrency)
    try:
        return anthropic.AsyncAnthropic(
            api_key=api_key, base_url=base_url, max_retries=0, http_client=http_client
        )
    except anthropic.CredentialsError as error:
        raise Stopped(
            f"nothing was sent: no API key found: {error}", kind=FailureKind.AUTHENTICATION
        ) from error
