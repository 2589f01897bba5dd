"""uvicorn's HTTP protocol, with the connection handed to the application so that it can be cut."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from claude_executor.simulator.connection import CONNECTION, Connection
from claude_executor.simulator.server import reset_on_close


class CuttableProtocol(HttpToolsProtocol):
    """One client connection of the simulator."""

    _connection: Connection
    _served = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        """A client connected."""
        super().connection_made(transport)
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

    def _cut(self, reset: bool) -> None:
        # uvicorn would complain that the application did not answer.
        self.cycle.disconnected = True
        if reset:
            reset_on_close(self.transport.get_extra_info("socket"))
        self.transport.abort()
