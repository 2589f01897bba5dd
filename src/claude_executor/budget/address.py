"""Redis addresses: a single server, or the primary that Sentinels name.

An address is ``redis://host:6379/0``, ``rediss://…`` or ``unix://…``, as in redis-py, or
``redis+sentinel://[user:password@]host:26379,host:26379/service[/db]`` (with TLS: ``rediss+sentinel://``).
With Sentinels, each new connection first asks them for the primary, so a promoted replica is found. If the
Sentinels have a password of their own, add ``?sentinel_password=…``.
"""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from redis.asyncio import Redis

SENTINEL = "+sentinel"
SENTINEL_PORT = 26379
_SENTINEL_URL = re.compile(r"(?P<scheme>\w+\+sentinel)://(?P<hosts>[^/?#]*)(?P<rest>.*)", re.DOTALL)
ADDRESS_FORM = (
    "not a Redis address; write redis://host:port/db (in the password, write %2F for /, %23 for #, %40 for @)"
)


def check(url: str) -> None:
    """Check the form of an address, without importing redis-py.

    Raises:
        ValueError: The address is malformed. The message does not quote it, because it may contain a
        password.
    """
    try:
        parts, _ = _split(url)
        if sentinels := parts.scheme.endswith(SENTINEL):
            valid = True
        elif parts.scheme == "unix":
            valid = bool(parts.path)
        else:
            valid = parts.scheme in {"redis", "rediss"} and not parts.fragment and parts.port != 0
    except ValueError:
        valid = sentinels = False
    if not valid:
        raise ValueError(ADDRESS_FORM)
    if sentinels:
        _sentinel_parts(url)


def connect(url: str, timeout: float) -> "Redis":
    """Create a client for a Redis address. Nothing is sent yet.

    Args:
        url: The address.
        timeout: Seconds to wait for a connection, and for each response.

    Raises:
        ValueError: The address is malformed.
    """
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),  # a late call is useless: the next one carries the same data
    }
    check(url)
    if _split(url)[0].scheme.endswith(SENTINEL):
        return _sentinel_client(url, options, timeout)
    try:
        return Redis.from_url(url, **options)  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
    except ValueError:
        raise ValueError(ADDRESS_FORM) from None


async def disconnect(client: "Redis") -> None:
    """Close a client, and its connections to Sentinels."""
    await client.aclose()
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    if sentinel is not None:
        await sentinel.aclose()


def _sentinel_client(url: str, options: dict[str, Any], timeout: float) -> "Redis":
    from redis.asyncio.sentinel import Sentinel

    hosts, service, login, sentinel_login = _sentinel_parts(url)
    # An unreachable Sentinel must leave enough of the timeout for the next one.
    each = timeout / (len(hosts) + 1)
    timeouts = {"socket_timeout": each, "socket_connect_timeout": each}
    sentinel = Sentinel(hosts, sentinel_kwargs={**options, **timeouts, **sentinel_login})  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(service, **options, **login)  # pyright: ignore[reportUnknownMemberType]
    return client


def _sentinel_parts(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any], dict[str, Any]]:
    """Return the Sentinels, the service, and the login options of Redis and of the Sentinels."""
    parts, netloc = _split(url)
    account, _, named = netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    login: dict[str, Any] = {}
    try:
        hosts = [_host(each) for each in named.split(",")]
        login["db"] = int(database or 0)
    except ValueError:
        hosts = []
    if parts.scheme not in {"redis" + SENTINEL, "rediss" + SENTINEL} or not hosts or not service:
        raise ValueError("not an address of Sentinels; write redis+sentinel://host:port,host:port/service")
    user, _, password = account.partition(":")
    login |= {key: unquote(text) for key, text in (("username", user), ("password", password)) if text}
    query = dict(parse_qsl(parts.query))
    sentinel_login: dict[str, Any] = {
        key: query[f"sentinel_{key}"] for key in ("username", "password") if f"sentinel_{key}" in query
    }
    if parts.scheme.startswith("rediss"):
        login["ssl"] = sentinel_login["ssl"] = True
    return hosts, service, login, sentinel_login


def _split(url: str) -> tuple[SplitResult, str]:
    """Return the parts of an address and its host part. urllib accepts only a single host there."""
    match = _SENTINEL_URL.match(url)
    if match is None:
        parts = urlsplit(url)
        return parts, parts.netloc
    return urlsplit(f"{match['scheme']}:{match['rest']}"), match["hosts"]


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or SENTINEL_PORT
