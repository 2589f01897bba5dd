"""The simulator as an HTTP transport inside the process: no sockets, real streaming, virtual time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import httpx2

from claude_executor.simulator.api.connection import CONNECTION, Connection, Cut

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from claude_executor.simulator import Simulator

Message = MutableMapping[str, Any]


class SimulatorTransport(httpx2.AsyncBaseTransport):
    """Sends requests to a simulator by calling it.

    Chunks arrive when they are sent. The simulator notices a client that cancels its request or closes a
    stream early, as over a socket. A cut connection raises ``httpx2.ReadError`` (reset),
    ``httpx2.RemoteProtocolError`` (closed early) or ``httpx2.ConnectError`` (refused); a read timeout raises
    ``httpx2.ReadTimeout``. Connections are only counted: an idle one is reused, for the faults that hit only
    reused connections. An exception in the simulator itself is raised unchanged.

    Args:
        simulator: The simulator that answers the requests.
    """

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._idle = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and wait for the head of its response."""
        body = await request.aread()
        call = _AsgiCall(self, request, body, reused=self._idle > 0)
        self._idle = max(0, self._idle - 1)
        task = asyncio.get_running_loop().create_task(call.run(self._simulator))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await call.wait_until(lambda: call.status)
        except BaseException:
            call.hang_up()
            raise
        return httpx2.Response(call.status, headers=call.headers, stream=call, request=request)

    async def aclose(self) -> None:
        """Cut every connection and wait until the simulator has noticed."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def release_connection(self) -> None:
        """Count a connection that has become idle."""
        self._idle += 1


class _AsgiCall(httpx2.AsyncByteStream):
    """One request in flight: an ASGI call on one side, a stream of bytes on the other."""

    def __init__(
        self, transport: SimulatorTransport, request: httpx2.Request, body: bytes, *, reused: bool
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._transport = transport
        self._chunks: deque[bytes] = deque()
        self._body: bytes | None = body
        self._complete = False
        self._error: Exception | None = None
        self._progress: asyncio.Future[None] | None = None
        self._hung_up: asyncio.Future[None] | None = None
        self._request = request
        self._read_timeout: float | None = request.extensions.get("timeout", {}).get("read")
        self._connection = Connection(self._cut, reused=reused)
        url = request.url
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 0),
            "extensions": {CONNECTION: self._connection},
        }

    async def run(self, simulator: "Simulator") -> None:
        """Serve the request with the simulator."""
        try:
            await simulator(self._scope, self._receive, self._send)
        except asyncio.CancelledError:
            self._fail(httpx2.RemoteProtocolError("the transport was closed", request=self._request))
            raise
        except Exception as error:
            self._fail(error)

    async def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait until ``ready()`` is true; raise the error that broke the connection, if it broke."""
        while not ready():
            if self._error is not None:
                raise self._error
            loop = asyncio.get_running_loop()
            progress = self._progress = loop.create_future()
            timer = (
                None if self._read_timeout is None else loop.call_later(self._read_timeout, self._time_out)
            )
            try:
                await progress
            finally:
                if timer is not None:
                    timer.cancel()
                self._progress = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        try:
            while True:
                await self.wait_until(lambda: self._chunks or self._complete)
                while self._chunks:
                    yield self._chunks.popleft()
                if self._complete:
                    return
        finally:
            self.hang_up()

    async def aclose(self) -> None:
        """Disconnect the client."""
        self.hang_up()

    def hang_up(self) -> None:
        """Disconnect the client, unless the response is complete."""
        if self._complete or self._error is not None:
            return
        self._error = httpx2.StreamClosed()
        self._connection.lost()
        if self._hung_up is not None and not self._hung_up.done():
            self._hung_up.set_result(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._complete and self._error is None:
            self._hung_up = asyncio.get_running_loop().create_future()
            await self._hung_up
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._error is not None:
            return
        if message["type"] == "http.response.start":
            self.headers = list(message["headers"])
            # The head counts as arrived with the first bytes, so the client wakes once instead of twice.
            self._scope["status"] = message["status"]
            return
        if message.get("body"):
            self._chunks.append(message["body"])
        if not message.get("more_body"):
            self._complete = True
            self._transport.release_connection()
        self.status = self._scope["status"]
        self._wake()

    def _cut(self, how: Cut) -> None:
        if how == "refuse":
            self._fail(httpx2.ConnectError("Connection refused", request=self._request))
        elif how == "reset":
            self._fail(httpx2.ReadError("Connection reset by peer", request=self._request))
        else:
            message = "peer closed connection without sending complete message body"
            self._fail(httpx2.RemoteProtocolError(message, request=self._request))

    def _time_out(self) -> None:
        self._fail(httpx2.ReadTimeout("The read operation timed out", request=self._request))
        self._connection.lost()

    def _fail(self, error: Exception) -> None:
        if self._error is None and not self._complete:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)


def simulated_client(simulator: "Simulator", **options: Any) -> "AsyncAnthropic":  # noqa: ANN401
    """Build an SDK client whose requests go to a simulator in this process. It does not retry by itself.

    Args:
        simulator: The simulator that answers the requests.
        options: Further arguments of ``AsyncAnthropic``, such as ``timeout`` or ``max_retries``.

    Returns:
        The client. Pass it to ``Executor``, or use it directly.
    """
    import anthropic

    options.setdefault("api_key", "sk-ant-simulated")
    options.setdefault("base_url", "http://simulator")
    options.setdefault("max_retries", 0)
    options.setdefault("http_client", httpx2.AsyncClient(transport=SimulatorTransport(simulator)))
    return anthropic.AsyncAnthropic(**options)
