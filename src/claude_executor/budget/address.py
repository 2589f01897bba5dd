"""Where Redis is: one server, or the one that Sentinels say is the primary.

An address is ``redis://host:6379/0``, ``rediss://…`` or ``unix://…``, as redis-py reads them, or
``redis+sentinel://[user:password@]host:26379,host:26379/service[/db]``, with TLS ``rediss+sentinel://``. Then
the Sentinels are asked for the primary before every new connection, so that a promoted one is found.
Where they have a password of their own: ``?sentinel_password=…``.
"""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from redis.asyncio import Redis

SENTINEL = "+sentinel"
USUAL_PORT = 26379
_SEVERAL = re.compile(r"(?P<scheme>\w+\+sentinel)://(?P<hosts>[^/?#]*)(?P<rest>.*)", re.DOTALL)
ADDRESS = "an address is redis://host:port/db; in its password write %2F for /, %23 for #, %40 for @"


def check(url: str) -> None:
    """Whether it is an address, as far as that can be seen without the client.

    Raises:
        ValueError: It is none. What it was is not in the message: it may hold a password.
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
        raise ValueError(ADDRESS)
    if sentinels:
        _read(url)


def connect(url: str, timeout: float) -> "Redis":
    """A client for what is at `url`, which waits `timeout` seconds at most. Nothing is sent yet.

    Raises:
        ValueError: It is no such address.
    """
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    how: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),  # a call that is late is no use; the next one says it again
    }
    check(url)
    if _split(url)[0].scheme.endswith(SENTINEL):
        return _primary(url, how, timeout)
    try:
        return Redis.from_url(url, **how)  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
    except ValueError:
        raise ValueError(ADDRESS) from None


async def disconnect(client: "Redis") -> None:
    """Close it, and what it asks for the primary."""
    await client.aclose()
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    if sentinel is not None:
        await sentinel.aclose()


def _primary(url: str, how: dict[str, Any], timeout: float) -> "Redis":
    from redis.asyncio.sentinel import Sentinel

    hosts, service, own, of_sentinel = _read(url)
    # One that is on a machine which has gone must not use up the time in which the next one could answer.
    each = timeout / (len(hosts) + 1)
    patience = {"socket_timeout": each, "socket_connect_timeout": each}
    sentinel = Sentinel(hosts, sentinel_kwargs={**how, **patience, **of_sentinel})  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(service, **how, **own)  # pyright: ignore[reportUnknownMemberType]
    return client


def _read(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any], dict[str, Any]]:
    """The Sentinels, the service, and how to sign in to Redis and to them."""
    parts, netloc = _split(url)
    account, _, named = netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    own: dict[str, Any] = {}
    try:
        hosts = [_host(each) for each in named.split(",")]
        own["db"] = int(database or 0)
    except ValueError:
        hosts = []
    if parts.scheme not in {"redis" + SENTINEL, "rediss" + SENTINEL} or not hosts or not service:
        raise ValueError("an address with Sentinels is redis+sentinel://host:port,host:port/service")
    user, _, password = account.partition(":")
    own |= {key: unquote(said) for key, said in (("username", user), ("password", password)) if said}
    told = dict(parse_qsl(parts.query))
    of_sentinel: dict[str, Any] = {
        key: told[f"sentinel_{key}"] for key in ("username", "password") if f"sentinel_{key}" in told
    }
    if parts.scheme.startswith("rediss"):
        own["ssl"] = of_sentinel["ssl"] = True
    return hosts, service, own, of_sentinel


def _split(url: str) -> tuple[SplitResult, str]:
    """The parts of an address, and what names its hosts: urllib knows of one, and may refuse several."""
    several = _SEVERAL.match(url)
    if several is None:
        parts = urlsplit(url)
        return parts, parts.netloc
    return urlsplit(f"{several['scheme']}:{several['rest']}"), several["hosts"]


def _host(text: str) -> tuple[str, int]:
    one = urlsplit(f"//{text}")
    if not one.hostname:
        raise ValueError
    return one.hostname, one.port or USUAL_PORT
