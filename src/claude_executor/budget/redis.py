"""The budget of a group in Redis, or Valkey: one script, which is `share.lua`.

A call is one EVALSHA. It either tells and asks everything at once, or nothing has happened, and a call that
came through although its answer did not is told apart by its number. Whoever waits for Redis waits `timeout`
seconds at most; what happens then is decided in `core.shared`.
"""

import os
import socket
import uuid
from dataclasses import fields
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from claude_executor.budget import Unreachable
from claude_executor.budget.address import check, connect, disconnect
from claude_executor.core.model.sharing import Lease, LeaseRequest, Membership, WhenUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

PREFIX = "claude-executor:1"
"""With the number of the format: who keeps the state in another way does not read this one."""

REASON_WORDS, REASON_LENGTH = 8, 80
"""How much of an error is told: further on it may quote what it was asked."""


class RedisBudget:
    """Limits that all executors with the same Redis and the same group share.

    Make one for each executor, or let each process use its own copy. Nothing is connected before it is used.

    Attributes:
        group: The group's name.
        name: What this member is called in listings.
        membership: How it takes part.
        calls: How often Redis was asked.
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
        """Share with all that name the same `group`.

        Args:
            url: Where Redis is: ``redis://host:6379/0``, ``rediss://…``, ``unix://…``; or the Sentinels that
                know where it is: ``redis+sentinel://host:26379,host:26379/service``.
            group: The name of those who share. One organisation should be one group.
            weight: Its share, relative to the others'.
            when_unreachable: What to do while Redis cannot be reached: ``"degrade"`` goes on with the limits divided by
                the last known number of members, ``"hold"`` waits, ``"fail"`` refuses with
                `BudgetUnreachable`.
            members: How many members there are taken to be if Redis cannot be reached from the start.
            max_concurrency: How many requests of a pool all together may have in flight. Where members say
                different numbers, the smallest holds.
            name: What to call it in listings; by default the host and the process.
            timeout: Seconds after which Redis is taken to be away.

        Raises:
            ImportError: redis-py is not installed.
            ValueError: An argument is out of range.
        """
        if not group or any(c in group for c in "{}") or not group.isprintable():
            raise ValueError(f"group must be a name without braces, got {group!r}")
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
        return self.__dict__ | {"_client": None, "_opened": False}  # a copy is another member

    async def open(self) -> None:
        """Get ready, as a new member. Importing the client takes a while: not on the event loop.

        Raises:
            RuntimeError: Another executor uses it.
        """
        import asyncio

        if self._opened:
            raise RuntimeError("another executor uses this RedisBudget: make one for each executor")
        self._opened = True
        try:
            self._become()
            await asyncio.to_thread(self._connected)
        except BaseException:
            self._opened = False
            raise

    async def lease(self, pool: str, ask: LeaseRequest) -> Lease:
        """Tell and ask, in one call.

        Raises:
            Unreachable: Redis did not answer.
        """
        import orjson

        request = {f.name: value for f in fields(ask) if _said(value := getattr(ask, f.name))}
        request["id"], request["name"] = self._id, self.name
        answer = await self._call(pool, orjson.dumps(request))
        return _lease(orjson.loads(answer))

    async def states(self) -> dict[str, dict[str, Any]]:
        """The state of each of the group's pools, as it is kept, and what is `now` in its time.

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
        """Disconnect."""
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
            if isinstance(error, ReadOnlyError):  # a replica now: the address has got another primary
                await self._connected().connection_pool.disconnect(inuse_connections=False)
            raise Unreachable(_reason(error)) from error

    def _become(self) -> None:
        """Be a member of its own, also where it was made before a fork."""
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
    """The script, as Redis gets it."""
    return resources.files("claude_executor.budget").joinpath("share.lua").read_text()


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _reason(error: Exception) -> str:
    """What Redis says, or what kind of trouble there is: its text may name the address."""
    from redis.exceptions import ResponseError

    said = (
        " ".join(str(error).split()[:REASON_WORDS])[:REASON_LENGTH]
        if isinstance(error, ResponseError)
        else ""
    )
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _said(value: object) -> bool:
    """Whether there is anything in it; what is not said is nothing."""
    return value is not None and value is not False and value != {}


def _amounts(value: Any) -> Any:  # noqa: ANN401
    return value or {}  # an empty table of Lua's may come as a list


def _lease(told: dict[str, Any]) -> Lease:
    breaker = told.get("breaker")
    return Lease(
        got=_amounts(told["got"]),
        again=max(0.0, min(600.0, float(told["again"]))),
        short=told.get("short"),
        probe=told["probe"],
        version=told["version"],
        level=_amounts(told["level"]),
        held=_amounts(told["held"]),
        flying=_amounts(told["flying"]),
        variance=_amounts(told["variance"]),
        terms=_amounts(told["terms"]),
        members=told["members"],
        share=float(told["share"]),
        closed=float(told["closed"]),
        gently=told["gently"],
        breaker=None if not breaker else (float(breaker["pause"]), float(breaker["lasted"])),
        cuts=told["cuts"],
        permits=told.get("permits"),
        growth=_amounts(told.get("growth")),
    )
