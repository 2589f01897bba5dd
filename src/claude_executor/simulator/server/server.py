"""The simulator on real sockets: in a background thread, or as a process of its own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from claude_executor.simulator.app import Simulator
from claude_executor.simulator.audit.verdict import Verdict
from claude_executor.simulator.world.faults import Change, Faults
from claude_executor.simulator.world.settings import Settings

if TYPE_CHECKING:
    from claude_executor.simulator.server.uvicorn_server import SimulatorServer

T = TypeVar("T")

# Thousands of clients may connect at the same moment. The kernel lowers this to its own maximum.
_BACKLOG = 16_384


class RunningSimulator:
    """A simulator that listens on a socket. Its methods may be called from any thread.

    Args:
        simulator: The application.
        base_url: The address, such as ``http://127.0.0.1:40123``.
        loop: The event loop that serves it, in another thread.

    Attributes:
        simulator: The application.
        base_url: The address to give to a client.
    """

    def __init__(self, simulator: Simulator, base_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.simulator = simulator
        self.base_url = base_url
        self._loop = loop

    def stats(self) -> dict[str, Any]:
        """Return traffic statistics so far; see ``Simulator.stats``."""
        return self._in_loop(self.simulator.stats)

    def verdict(self) -> Verdict:
        """Return the verdict on the client so far."""
        return self._in_loop(self.simulator.verdict)

    def set_faults(self, faults: Faults | None = None, /, **changes: Any) -> None:  # noqa: ANN401
        """Change the faults from now on; see ``Simulator.set_faults``."""
        self._in_loop(lambda: self.simulator.set_faults(faults, **changes))

    def reset(self) -> None:
        """Start over; see ``Simulator.reset``."""
        self._in_loop(self.simulator.reset)

    def _in_loop(self, action: Callable[[], T]) -> T:
        """Run ``action`` on the serving loop, where no request is in the middle of a step."""

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


@contextmanager
def running(
    settings: Settings | None = None,
    *,
    faults: Faults | None = None,
    schedule: Sequence[tuple[float, Change]] = (),
    host: str = "127.0.0.1",
    port: int = 0,
) -> Generator[RunningSimulator, None, None]:
    """Serve a simulator from a background thread, on a real socket and in real time.

    Args:
        settings: The organization. The default has the limits of the start tier and no latency.
        faults: The faults at the start. The default is none.
        schedule: Pairs of seconds after the start and the change to make then.
        host: The address to listen on.
        port: The port; 0 picks a free one.

    Yields:
        The running simulator. It stops when the block ends, and cuts off answers that are still in flight.

    Raises:
        OSError: The address cannot be used.
    """
    simulator = Simulator(settings, faults=faults, schedule=schedule)
    listener = listen(host, port)
    server = build_server(simulator)
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(ready.set)
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="simulator", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield RunningSimulator(simulator, url_of(listener), loops[0])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket. Clients can connect at once and are served when the server runs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(simulator: Simulator, *, handle_signals: bool = True) -> "SimulatorServer":
    """Build the HTTP server of a simulator, whose connections the simulator can cut.

    Args:
        simulator: The application.
        handle_signals: Whether SIGINT and SIGTERM stop the server and then end the process.
    """
    # Imported here, so that `import claude_executor.simulator` does not wait for uvicorn.
    from claude_executor.simulator.server.uvicorn_server import SimulatorServer

    return SimulatorServer(simulator, backlog=_BACKLOG, handle_signals=handle_signals)
