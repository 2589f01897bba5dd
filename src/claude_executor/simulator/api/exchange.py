"""One HTTP request and its answer, in plain ASGI: the busiest path needs no request objects."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from claude_executor.simulator.api.connection import Connection
from claude_executor.simulator.limits.pools import LimitPool
from claude_executor.simulator.messages import errors as refusals
from claude_executor.simulator.messages import headers
from claude_executor.simulator.messages.errors import NO_KEY, NOT_ADMIN, WRONG_KEY, ErrorResponse
from claude_executor.simulator.organization import Organization

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_BODY = 32 * 1024 * 1024
"""Bytes that ``/v1/messages`` accepts (documented)."""


class Exchange:
    """One request.

    Args:
        organization: Whose it is.
        scope: ASGI scope.
        receive: ASGI receive.
        send: ASGI send.
    """

    __slots__ = (
        "_organization",
        "_receive",
        "_scope",
        "_send",
        "cause",
        "connection",
        "ended",
        "request_id",
        "status",
        "writing",
    )

    def __init__(self, organization: Organization, scope: Scope, receive: Receive, send: Send) -> None:
        self._organization = organization
        self._scope = scope
        self._receive = receive
        self._send = send
        self.connection = Connection.of(scope)
        self.request_id = f"req_01{organization.number():022d}"
        self.status = 0
        self.cause = "left"
        self.ended = False
        self.writing = False

    def key(self) -> str | None:
        """The API key, from ``x-api-key`` or ``Authorization: Bearer``; ``None`` if there is neither."""
        for name, value in self._scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                return bytes(value[7:]).decode("latin-1").strip()
            if name == b"x-api-key":
                return bytes(value).decode("latin-1")
        return None

    def rejection(self, now: float) -> ErrorResponse | None:
        """The answer that no request body could change, if there is one: a bad key, or an episode."""
        organization = self._organization
        return self.unauthorized() or refusals.episode(organization.faults, organization.wall(now))

    def unauthorized(self, *, admin: bool = False) -> ErrorResponse | None:
        """The answer to a request whose key is missing or wrong, or ``None`` if the key is good."""
        key = self.key()
        if not key:
            return NO_KEY
        settings = self._organization.settings
        if admin:
            return None if key == settings.admin_key else NOT_ADMIN
        if settings.keys is not None and key not in settings.keys:
            return WRONG_KEY
        return None

    async def body(self) -> bytes | None:
        """The whole body; ``None`` if the client left before its end, or was told that it is too large."""
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.connection.gone = True
                return None
            # Read to the end even if it is too much: a client still sending would miss the answer.
            part = message.get("body", b"")
            size += len(part)
            if size <= LARGEST_BODY:
                parts.append(part)
            more = message.get("more_body", False)
        if size > LARGEST_BODY:
            await self.refuse(refusals.TOO_LARGE, self._organization.tick())
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def refuse(self, refusal: ErrorResponse, now: float, pool: LimitPool | None = None) -> None:
        """Answer with an error."""
        body, kind = refusal.body(self.request_id)
        found = self._head(now) if refusal.shown != "nothing" else [(b"server", b"cloudflare")]
        if refusal.shown != "nothing" and refusal.status != 401:
            found += headers.organization()
        if refusal.shown == "limits" and pool is not None and self._organization.settings.headers:
            found += headers.limits(pool, now, self._organization.wall(now))
        if refusal.retry_after is not None:
            found.append((b"retry-after", b"%d" % refusal.retry_after))
        if refusal.should_retry is not None:
            found.append((b"x-should-retry", b"true" if refusal.should_retry else b"false"))
        if refusal.status == 413:
            found.append((b"connection", b"close"))
        await self._whole(refusal.status, kind, body, found)
        self.cause = refusal.cause

    async def answer(self, body: bytes, now: float, pool: LimitPool | None = None) -> None:
        """Answer with a 200 and one JSON document."""
        await self._whole(200, b"application/json", body, self._good(now, pool))

    async def begin(self, now: float, pool: LimitPool, first: bytes) -> None:
        """Begin a stream with a 200 and its first events."""
        found = self._good(now, pool)
        found += [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        self.status = 200
        await self._send({"type": "http.response.start", "status": 200, "headers": found})
        await self.more(first)

    async def more(self, chunk: bytes) -> None:
        """Send another part of a stream."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        """Send the last part of a stream."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _whole(self, status: int, kind: bytes, body: bytes, found: list[headers.Header]) -> None:
        found += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": found})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _head(self, now: float) -> list[headers.Header]:
        return headers.identity(self.request_id, self._organization.wall(now))

    def _good(self, now: float, pool: LimitPool | None) -> list[headers.Header]:
        found = self._head(now) + headers.organization()
        if pool is not None and self._organization.settings.headers:
            found += headers.limits(pool, now, self._organization.wall(now))
        return found
