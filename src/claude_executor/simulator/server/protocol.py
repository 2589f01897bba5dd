"""uvicorn's HTTP protocol, which gives the application its connection so that it can cut it."""

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from claude_executor.simulator.api.connection import CONNECTION, Connection, Cut


class CuttableProtocol(HttpToolsProtocol):
    """One client connection of the simulator."""

    _connection: Connection
    _served = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        """Expose a new connection."""
        super().connection_made(transport)
        self.transport = _JoinedWrites(transport, self.loop)
        self._connection = Connection(self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the request on a connection that the client or a fault has ended."""
        self._connection.lost()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Put the connection into the scope of a new request."""
        super().on_message_begin()
        self._connection.reused = self._served
        self._served = True
        extensions: Any = {CONNECTION: self._connection}
        self.scope["extensions"] = extensions

    def _cut(self, how: Cut) -> None:
        # Keeps uvicorn from reporting that the application did not respond.
        self.cycle.disconnected = True
        # The kernel has already accepted the connection, so a reset stands in for a refused one.
        if how != "close":
            reset_on_close(self.transport.get_extra_info("socket"))
        self.transport.abort()


class _JoinedWrites(asyncio.Transport):
    """Joins all writes of one turn of the loop, so that head and body of a response share one packet.

    uvicorn writes them separately, which costs the server another system call and wakes the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:  # noqa: ANN401 - any buffer
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._flush()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))


_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def reset_on_close(connection: socket.socket) -> None:
    """Make the next ``close`` of a socket send a TCP reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
