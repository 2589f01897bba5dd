"""One client request and its response, on top of ASGI messages."""

import asyncio
from collections.abc import AsyncIterator, Coroutine

import httpx2
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from claude_executor.gateway.error_replies import ErrorReply
from claude_executor.gateway.headers import headers_for_client
from claude_executor.gateway.sse import terminated_sse

BODY_TIMEOUT = 60.0
"""Seconds to wait for the next chunk of a request body."""


class ClientDisconnected(Exception):
    """The client disconnected, or stopped sending, before its request was complete."""


class ClientExchange:
    """One client request and the response to it.

    Attributes:
        method: The HTTP method, in capitals.
        path: The path as the client sent it, still encoded, without the query.
        url: The path as the client sent it, with the query if there is one.
        headers: The headers by lowercase name; repeated headers are joined with commas.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the arguments of an ASGI application."""
        self.method: str = scope["method"]
        self.path: str = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        query: str = scope["query_string"].decode("latin-1")
        self.url = f"{self.path}?{query}" if query else self.path
        self.headers: dict[str, str] = {}
        for name, value in Headers(scope=scope).items():
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self._receive = receive
        self._send = send
        self._all_read = asyncio.Event()
        if not self.has_body:
            self._all_read.set()

    @property
    def has_body(self) -> bool:
        """Whether the request has a body."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    # ---- from the client

    async def body_chunks(self) -> AsyncIterator[bytes]:
        """The chunks of the request body, as they arrive.

        Raises:
            ClientDisconnected: The client disconnected or stopped sending before the end of the body.
        """
        while not self._all_read.is_set():
            try:
                async with asyncio.timeout(BODY_TIMEOUT):
                    message = await self._receive()
            except TimeoutError:
                raise ClientDisconnected from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            if not message.get("more_body", False):
                self._all_read.set()
            yield message.get("body", b"")

    async def run_while_connected(self, work: Coroutine[object, object, None]) -> None:
        """Run `work`, and cancel it if the client disconnects: nobody would read what it pays for."""
        task, disconnect = asyncio.create_task(work), asyncio.create_task(self._disconnected())
        # A single cancellation, so that the task can settle its request while it unwinds.
        disconnect.add_done_callback(lambda _: task.cancel())
        try:
            await task
        except asyncio.CancelledError:
            if not disconnect.done():
                raise
        finally:
            disconnect.cancel()

    async def _disconnected(self) -> None:
        await self._all_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # ---- to the client

    async def answer(self, body: bytes, kind: str = "application/json", *, status: int = 200) -> None:
        """Send a response of the gateway itself."""
        await self._send_all(status, [(b"content-type", kind.encode())], body)

    async def send_error(self, reply: ErrorReply) -> None:
        """Send an error of the gateway itself."""
        await self._send_all(reply.status, reply.headers, reply.body)

    async def relay(self, response: httpx2.Response) -> None:
        """Send the API's response to the client, chunk by chunk if it is streamed.

        Raises:
            httpx2.TransportError: The API's response ended early; the response to the client must do the
            same.
        """
        headers = headers_for_client(response)
        if response.is_stream_consumed:
            await self._send_all(response.status_code, headers, response.content)
            return
        if "content-encoding" not in response.headers and "content-length" in response.headers:
            headers.append((b"content-length", response.headers["content-length"].encode()))
        chunks: AsyncIterator[bytes] = response.aiter_bytes()
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            chunks = terminated_sse(chunks)
        try:
            await self._begin(response.status_code, headers)
            async for chunk in chunks:
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    async def _send_all(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await self._begin(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._send({"type": "http.response.body", "body": body})

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
