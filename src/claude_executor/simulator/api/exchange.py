"""One HTTP request and its response, in plain ASGI: the busiest path can do without request objects."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from claude_executor.simulator.api.connection import Connection
from claude_executor.simulator.limits.pools import LimitPool
from claude_executor.simulator.messages import errors, headers
from claude_executor.simulator.messages.errors import NO_KEY, NOT_ADMIN, WRONG_KEY, ErrorResponse
from claude_executor.simulator.organization import Organization

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_BODY = 32 * 1024 * 1024
"""The largest body, in bytes, that ``/v1/messages`` accepts (documented)."""


class Exchange:
    """One request and its response.

    Args:
        organization: The organization that receives the request.
        scope: The ASGI scope.
        receive: The ASGI receive function.
        send: The ASGI send function.

    Attributes:
        connection: The client's connection.
        request_id: The id that the response carries.
        status: The HTTP status sent; 0 while there is none.
        cause: The outcome for the statistics; ``"left"`` until the request ends otherwise.
        ended: Whether the audit has recorded the outcome of the request.
        writing: Whether output tokens have begun to flow.
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
        self.request_id = f"req_01{organization.next_number():022d}"
        self.status = 0
        self.cause = "left"
        self.ended = False
        self.writing = False

    def api_key(self) -> str | None:
        """Return the key from ``x-api-key`` or ``Authorization: Bearer``; ``None`` if both are missing."""
        for name, value in self._scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                return bytes(value[7:]).decode("latin-1").strip()
            if name == b"x-api-key":
                return bytes(value).decode("latin-1")
        return None

    def rejection(self, now: float) -> ErrorResponse | None:
        """Return the error that any body would get, for its key or by a fault; ``None`` if there is none."""
        organization = self._organization
        return self.authentication_error() or errors.organization_error(
            organization.faults, organization.wall(now)
        )

    def authentication_error(self, *, admin: bool = False) -> ErrorResponse | None:
        """Return the error for a missing or wrong key; ``None`` if the key is good."""
        key = self.api_key()
        if not key:
            return NO_KEY
        settings = self._organization.settings
        if admin:
            return None if key == settings.admin_key else NOT_ADMIN
        if settings.keys is not None and key not in settings.keys:
            return WRONG_KEY
        return None

    async def body(self) -> bytes | None:
        """Read the whole body; ``None`` if the client disconnected, or if it was too large and got a 413."""
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.connection.gone = True
                return None
            # Read to the end even if the body is too large: a client still sending would miss the response.
            part = message.get("body", b"")
            size += len(part)
            if size <= LARGEST_BODY:
                parts.append(part)
            more = message.get("more_body", False)
        if size > LARGEST_BODY:
            await self.send_error(errors.TOO_LARGE, self._organization.tick())
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def send_error(self, error: ErrorResponse, now: float, pool: LimitPool | None = None) -> None:
        """Respond with an error."""
        body, kind = error.body(self.request_id)
        found = self._identity_headers(now) if error.header_set != "nothing" else [(b"server", b"cloudflare")]
        if error.header_set != "nothing" and error.status != 401:
            found += headers.organization()
        if error.header_set == "limits" and pool is not None and self._organization.settings.headers:
            found += headers.limits(pool, now, self._organization.wall(now))
        if error.retry_after is not None:
            found.append((b"retry-after", b"%d" % error.retry_after))
        if error.should_retry is not None:
            found.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
        if error.status == 413:
            found.append((b"connection", b"close"))
        await self._send_whole(error.status, kind, body, found)
        self.cause = error.cause

    async def send_json(self, body: bytes, now: float, pool: LimitPool | None = None) -> None:
        """Respond with a 200 and one JSON document."""
        await self._send_whole(200, b"application/json", body, self._success_headers(now, pool))

    async def begin_stream(self, now: float, pool: LimitPool, first: bytes) -> None:
        """Start a stream: a 200 and its first events."""
        found = self._success_headers(now, pool)
        found += [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        self.status = 200
        await self._send({"type": "http.response.start", "status": 200, "headers": found})
        await self.send_chunk(first)

    async def send_chunk(self, chunk: bytes) -> None:
        """Send the next chunk of a stream."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end_stream(self, chunk: bytes = b"") -> None:
        """Send the last chunk of a stream."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _send_whole(self, status: int, kind: bytes, body: bytes, found: list[headers.Header]) -> None:
        found += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": found})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _identity_headers(self, now: float) -> list[headers.Header]:
        return headers.identity(self.request_id, self._organization.wall(now))

    def _success_headers(self, now: float, pool: LimitPool | None) -> list[headers.Header]:
        found = self._identity_headers(now) + headers.organization()
        if pool is not None and self._organization.settings.headers:
            found += headers.limits(pool, now, self._organization.wall(now))
        return found
