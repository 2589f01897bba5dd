"""One request of a client and the answer to it, in the terms of ASGI."""

import asyncio
from collections.abc import AsyncIterator, Coroutine

import httpx2
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from claude_executor.gateway.headers import passed_back
from claude_executor.gateway.refusals import ErrorReply
from claude_executor.gateway.sse import terminated_sse

BODY_SILENCE = 60.0
"""Seconds within which the next piece of a request must come."""


class ClientGone(Exception):
    """The client has gone away before all of its request had come, or has stopped sending it."""


class ClientExchange:
    """One request of a client and the answer to it.

    Attributes:
        method: Of HTTP, in capitals.
        path: As it was sent, without the query.
        url: As it was sent: the path, and the query if there is one.
        headers: By their names in small letters; what was sent several times is one list.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application is called."""
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
        """Whether the client sends one."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    # ---- from the client

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            Gone: It does not come to its end.
        """
        while not self._all_read.is_set():
            try:
                async with asyncio.timeout(BODY_SILENCE):
                    message = await self._receive()
            except TimeoutError:
                raise ClientGone from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            if not message.get("more_body", False):
                self._all_read.set()
            yield message.get("body", b"")

    async def while_there(self, work: Coroutine[object, object, None]) -> None:
        """Do this as long as the client is there: nobody is to pay for what nobody reads."""
        task, leaving = asyncio.create_task(work), asyncio.create_task(self._left())
        # Cancelled once, so that it can give back what it holds.
        leaving.add_done_callback(lambda _: task.cancel())
        try:
            await task
        except asyncio.CancelledError:
            if not leaving.done():
                raise
        finally:
            leaving.cancel()

    async def _left(self) -> None:
        await self._all_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # ---- to the client

    async def answer(self, body: bytes, kind: str = "application/json", *, status: int = 200) -> None:
        """Answer something of our own."""
        await self._send_all(status, [(b"content-type", kind.encode())], body)

    async def refuse(self, refusal: ErrorReply) -> None:
        """Answer with an error of our own."""
        await self._send_all(refusal.status, refusal.headers, refusal.body)

    async def relay(self, response: httpx2.Response) -> None:
        """Answer what the API has answered, piece by piece if it comes so.

        Raises:
            httpx2.TransportError: It was broken off; so must be the answer to the client.
        """
        headers = passed_back(response)
        if response.is_stream_consumed:
            await self._send_all(response.status_code, headers, response.content)
            return
        if "content-encoding" not in response.headers and "content-length" in response.headers:
            headers.append((b"content-length", response.headers["content-length"].encode()))
        pieces: AsyncIterator[bytes] = response.aiter_bytes()
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            pieces = terminated_sse(pieces)
        try:
            await self._begin(response.status_code, headers)
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    async def _send_all(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await self._begin(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._send({"type": "http.response.body", "body": body})

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
