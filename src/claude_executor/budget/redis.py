"""The budget of a group in Redis or Valkey. The script `share.lua` does the sharing, inside Redis.

A call is one EVALSHA: it reports and asks everything at once, or nothing has happened. Where only the answer
was lost, the script knows the repeated report by its number. A call takes `timeout` seconds at most; what a
member does after that is decided in `core.group`.
"""

import os
import socket
import uuid
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from claude_executor.budget import Unreachable
from claude_executor.budget.address import check, connect, disconnect
from claude_executor.budget.wire import decode_lease, encode_request
from claude_executor.core.model.sharing import Lease, LeaseRequest, Membership, WhenUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

PREFIX = "claude-executor:1"
"""Prefix of all keys, with the number of the format: versions that keep the state differently do not mix."""

REASON_WORDS, REASON_LENGTH = 8, 80
"""The part of an error message that is shown: what follows may quote the command."""


class RedisBudget:
    """Limits shared by all executors that name the same Redis and the same group.

    Give each executor an object of its own. A copy, made by `copy`, by pickling or by a fork, is a member of
    its own. Nothing connects before the first call.

    Attributes:
        group: The name of the group.
        name: The name of this member in listings.
        membership: The terms on which this member takes part.
        calls: The number of calls of Redis so far.
    """

    def __init__(
        self,
        url: str,
        *,
        group: str,
        weight: float = 1.0,
        when_unreachable: str = "degrade",
        members: int = 8,
        max_concurrency: int | None = None,
        name: str | None = None,
        timeout: float = 1.0,
    ) -> None:
        """Describe a group and this member of it.

        Args:
            url: The address of Redis: ``redis://host:6379/0``, ``rediss://…`` or ``unix://…``; or of the
                Sentinels that know it: ``redis+sentinel://host:26379,host:26379/service``.
            group: The name of the group. Make each organization one group.
            weight: This member's part of the limits, relative to the other members' weights.
            when_unreachable: What to do while Redis cannot be reached: ``"degrade"`` continues with the
                limits divided by the last known number of members, ``"hold"`` waits, ``"fail"`` refuses
                requests with `BudgetUnreachable`.
            members: The number of members to assume if Redis cannot be reached from the start.
            max_concurrency: The number of requests that all members together may have in flight in one pool.
                Where members give different numbers, the smallest holds.
            name: The name of this member in listings; by default host and process.
            timeout: Seconds after which a call counts as unanswered.

        Raises:
            ImportError: redis-py is not installed.
            ValueError: An argument is out of range.
        """
        if not group or any(c in group for c in "{}") or not group.isprintable():
            raise ValueError(f"group must be a printable name without braces, got {group!r}")
        check(url)
        if find_spec("redis") is None:
            raise ImportError("a shared budget needs redis-py: pip install 'claude-executor[redis]'")
        if not timeout > 0.0:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
        try:
            policy = WhenUnreachable(when_unreachable)
        except ValueError:
            known = ", ".join(WhenUnreachable)
            raise ValueError(f"when_unreachable must be one of {known}, got {when_unreachable!r}") from None
        self.group = group
        self._name = name
        self.membership = Membership(
            weight=weight, when_unreachable=policy, members=members, most=max_concurrency
        )
        self.calls = 0
        self._url = url
        self._timeout = timeout
        self._client: Redis | None = None
        self._sha = ""
        self._opened = False
        self._become()

    def __repr__(self) -> str:
        return f"<RedisBudget group={self.group!r} name={self.name!r}>"  # the URL may hold a password

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_client": None, "_opened": False}  # a copy is a member of its own

    async def open(self) -> None:
        """Become a new member of the group. Nothing connects yet.

        Raises:
            RuntimeError: Another executor uses this object.
        """
        import asyncio

        if self._opened:
            raise RuntimeError("another executor uses this RedisBudget; make one for each executor")
        self._opened = True
        try:
            self._become()
            await asyncio.to_thread(self._connected)  # the first import of redis-py takes a while
        except BaseException:
            self._opened = False
            raise

    async def lease(self, pool: str, request: LeaseRequest) -> Lease:
        """Report to the group and ask it for a lease, in one call of Redis.

        Raises:
            Unreachable: Redis did not answer within `timeout` seconds, or refused.
        """
        message = encode_request(request, member=self._id, name=self.name)
        return decode_lease(await self._call(pool, message))

    async def states(self) -> dict[str, dict[str, Any]]:
        """Return the state of every pool as Redis keeps it, with the current instant as ``"now"``.

        Raises:
            Unreachable: Redis did not answer.
        """
        import orjson
        from redis.exceptions import RedisError

        try:
            client = self._connected()
            members = await cast("Awaitable[set[bytes]]", client.smembers(self._key("pools")))
            names = sorted(name.decode() for name in members)
            stored = await client.mget([self._key(f"pool:{name}") for name in names]) if names else []
            seconds, micros = await client.time()  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
        except (RedisError, OSError, ValueError) as error:
            raise Unreachable(_reason(error)) from error
        states = {name: orjson.loads(state) for name, state in zip(names, stored, strict=True) if state}
        return {
            name: state | {"now": seconds + micros / 1e6 - state["born"]} for name, state in states.items()
        }

    async def close(self) -> None:
        """Disconnect from Redis."""
        client, self._client, self._opened = self._client, None, False
        if client is not None:
            await disconnect(client)

    async def _call(self, pool: str, request: bytes) -> bytes:
        import asyncio

        from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

        keys = (self._key(f"pool:{pool}"), self._key("pools"))
        self.calls += 1
        try:
            async with asyncio.timeout(self._timeout):
                client = self._connected()
                try:
                    answer = client.evalsha(self._sha, 2, *keys, request, pool)
                    return await cast("Awaitable[bytes]", answer)
                except NoScriptError:
                    answer = client.eval(script(), 2, *keys, request, pool)
                    return await cast("Awaitable[bytes]", answer)
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError):  # the address belongs to another primary now
                await self._connected().connection_pool.disconnect(inuse_connections=False)
            raise Unreachable(_reason(error)) from error

    def _become(self) -> None:
        """Take a new identity: this object may be a copy from before a fork."""
        self._id = uuid.uuid4().hex
        self.name = self._name or f"{socket.gethostname()}:{os.getpid()}"

    def _connected(self) -> "Redis":
        if self._client is None:
            self._client = connect(self._url, self._timeout)
            self._sha = _digest(script())
        return self._client

    def _key(self, what: str) -> str:
        return f"{PREFIX}:{{{self.group}}}:{what}"  # braces: one slot of a cluster


@cache
def script() -> str:
    """Return the source of the script."""
    return resources.files("claude_executor.budget").joinpath("share.lua").read_text()


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _reason(error: Exception) -> str:
    """Return what Redis says, or else only the class of the error: its text may name the address."""
    from redis.exceptions import ResponseError

    said = (
        " ".join(str(error).split()[:REASON_WORDS])[:REASON_LENGTH]
        if isinstance(error, ResponseError)
        else ""
    )
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
