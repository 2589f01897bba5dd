"""The client's connection: whether the client is still there, and how to cut it off.

The simulator's own server and the transport of ``claude_executor.testing`` put a ``Connection`` into the ASGI
scope under ``scope["extensions"][CONNECTION]``. Under any other ASGI server a cut raises ``CannotCutError``,
and a client that disconnects is noticed only when its answer is ready.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

CONNECTION = "claude_executor.simulator.api.connection"
"""The name of the ASGI extension."""

Cut = Literal["reset", "close", "refuse"]
"""The ways in which a connection breaks: a TCP reset, an early end, or a refusal to connect."""


class CannotCutError(RuntimeError):
    """A fault should cut a connection that this ASGI server does not expose."""


class Connection:
    """One client connection.

    Args:
        cut: Breaks the connection at once, without flushing.
        reused: Whether the connection has served a request before.

    Attributes:
        gone: Whether the client has disconnected or was cut off.
        reused: Whether the connection has served a request before.
    """

    __slots__ = ("_cut", "_waiter", "gone", "reused")

    def __init__(self, cut: Callable[[Cut], None] | None = None, *, reused: bool = False) -> None:
        self._cut = cut
        self._waiter: asyncio.Future[None] | None = None
        self.gone = False
        self.reused = reused

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> "Connection":
        """Return the connection of an ASGI scope, or a stand-in that cannot be cut."""
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        found = extensions.get(CONNECTION)
        return found if isinstance(found, Connection) else cls()

    def lost(self) -> None:
        """Record that the client has disconnected, and wake the request that sleeps on this connection."""
        self.gone = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cut(self, how: Cut) -> None:
        """Break the connection.

        Args:
            how: The failure that the client sees: ``"reset"`` (``ECONNRESET``), ``"close"`` (an early end) or
                ``"refuse"`` (a refused connection).

        Raises:
            CannotCutError: The ASGI server does not expose its connections.
        """
        if self._cut is None:
            raise CannotCutError(
                "this ASGI server cannot cut connections; serve with claude_executor.simulator.running()"
            )
        self.gone = True
        self._cut(how)

    async def sleep(self, seconds: float) -> bool:
        """Sleep until the time is over or the client disconnects.

        Returns:
            Whether the client is still connected.
        """
        if self.gone or seconds <= 0:
            return not self.gone
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
        return not self.gone


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
