"""The HTTP server of a simulator: uvicorn, with connections that the simulator can cut."""

from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from claude_executor.simulator.app import Simulator
from claude_executor.simulator.server.protocol import CuttableProtocol

# An idle connection outlives any client's own timeout, so connections go stale only through a fault.
_KEEP_ALIVE = 600
# Seconds that answers in flight get to finish when the server stops.
_GRACE = 1


class SimulatorServer(uvicorn.Server):
    """Serves a simulator over HTTP/1.1.

    Args:
        simulator: The application.
        backlog: The number of connections that the kernel queues.
        handle_signals: Whether SIGINT and SIGTERM stop the server. uvicorn raises the signal again once it
            has stopped, so the process seems to have been killed. Set to False to handle signals yourself.
    """

    def __init__(self, simulator: Simulator, *, backlog: int, handle_signals: bool = True) -> None:
        self._handle_signals = handle_signals
        super().__init__(
            uvicorn.Config(
                simulator,
                http=CuttableProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=backlog,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GRACE,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while the server runs, if it should."""
        if not self._handle_signals:
            yield
            return
        with super().capture_signals():
            yield
