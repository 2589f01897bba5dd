"""The simulator on real sockets: in a thread of this process, or as the whole of one."""

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
    import uvicorn

T = TypeVar("T")

# Thousands of clients may connect at the same moment; the kernel lowers this to its own maximum.
_BACKLOG = 16_384
# Longer than any client keeps an idle connection, so that the only stale ones are those that a fault makes
# stale.
_KEEP_ALIVE = 600
# Seconds that running answers get to finish when the server stops.
_GRACE = 1


class RunningSimulator:
    """A simulator that listens.

    Args:
        simulator: The application.
        base_url: Where it listens, such as ``http://127.0.0.1:40123``.
        loop: The event loop that serves it, in another thread.
    """

    def __init__(self, simulator: Simulator, base_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.simulator = simulator
        self.base_url = base_url
        self._loop = loop

    def stats(self) -> dict[str, Any]:
        """What happened so far, in numbers."""
        return self._there(self.simulator.stats)

    def verdict(self) -> Verdict:
        """How the client behaved so far."""
        return self._there(self.simulator.verdict)

    def set_faults(self, faults: Faults | None = None, /, **changes: Any) -> None:  # noqa: ANN401
        """Change what goes wrong, from now on; see ``Simulator.set_faults``."""
        self._there(lambda: self.simulator.set_faults(faults, **changes))

    def reset(self) -> None:
        """Begin anew; see ``Simulator.reset``."""
        self._there(self.simulator.reset)

    def _there(self, action: Callable[[], T]) -> T:
        """Run ``action`` between two callbacks of the serving loop, where nothing is half done."""

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
    """Serve a simulator from a background thread, on real sockets and in real time.

    Args:
        settings: The organisation.
        faults: What goes wrong from the start.
        schedule: What changes when, in seconds after the start.
        host: Where to listen.
        port: The port; 0 takes any that is free.

    Yields:
        The running simulator. It stops when the block ends; answers still running then are cut off.
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
    """Open the listening socket; from then on clients can connect, even before anyone serves them."""
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
    """The base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(simulator: Simulator) -> "uvicorn.Server":
    """A uvicorn server for a simulator, whose connections the simulator can really cut."""
    import uvicorn

    from claude_executor.simulator.server.protocol import CuttableProtocol

    config = uvicorn.Config(
        simulator,
        http=CuttableProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    return uvicorn.Server(config)
