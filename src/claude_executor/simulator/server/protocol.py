"""uvicorn's HTTP protocol, with the connection handed to the application so that it can be cut."""

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
        """A client connected."""
        super().connection_made(transport)
        self.transport = _JoinedWrites(transport, self.loop)
        self._connection = Connection(self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client, or a fault, ended the connection."""
        self._connection.lost()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._connection.reused = self._served
        self._served = True
        extensions: Any = {CONNECTION: self._connection}
        self.scope["extensions"] = extensions

    def _cut(self, how: Cut) -> None:
        # uvicorn would complain that the application did not answer.
        self.cycle.disconnected = True
        # A refusal comes too late, the kernel has accepted the connection: a reset is the nearest to it.
        if how != "close":
            reset_on_close(self.transport.get_extra_info("socket"))
        self.transport.abort()


class _JoinedWrites(asyncio.Transport):
    """Sends what is written in one turn of the loop at its end: head and body of an answer in one packet.

    uvicorn writes them one after the other, which costs the server a system call and wakes the client twice.
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
    """Make the next ``close`` of a socket send a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
