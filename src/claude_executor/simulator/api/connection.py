"""The client's end of the line: whether it is still there, and how to cut it.

A server that knows its sockets (``server.py``) or a transport that imitates them
(``claude_executor.testing``) puts a ``ClientHandle`` into the ASGI scope under
``scope["extensions"][CONNECTION]``. Under any other server there is none: then a cut raises
``CannotCutError`` and a client that hangs up is noticed only when its answer is ready.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

CONNECTION = "claude_executor.simulator.api.connection"
"""The name of the ASGI extension."""


Cut = Literal["reset", "close", "refuse"]


class CannotCutError(RuntimeError):
    """A fault wants to cut a connection that this ASGI server does not hand out."""


class Connection:
    """One client connection.

    Args:
        cut: Breaks the connection, at once and unflushed.
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
        """The connection of an ASGI scope, or a stand-in that cannot be cut."""
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        found = extensions.get(CONNECTION)
        return found if isinstance(found, Connection) else cls()

    def lost(self) -> None:
        """Tell the simulator that the client has gone: whoever sleeps on this connection wakes."""
        self.gone = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cut(self, how: Cut) -> None:
        """Break the connection without another word.

        Args:
            how: What the client sees: a ``"reset"`` (``ECONNRESET``), an early end (``"close"``), or nobody
                who listens (``"refuse"``).
        """
        if self._cut is None:
            raise CannotCutError(
                "this ASGI server cannot cut connections: use claude_executor.simulator.running"
            )
        self.gone = True
        self._cut(how)

    async def sleep(self, seconds: float) -> bool:
        """Wait, but no longer than the client does.

        Returns:
            Whether the client is still there.
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
