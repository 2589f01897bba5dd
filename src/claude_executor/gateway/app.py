"""The ASGI application: takes requests, has them sent, gives back what came."""

import logging
import secrets
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httpx2
import orjson
from starlette.types import Receive, Scope, Send

from claude_executor import Executor
from claude_executor.gateway.access import Access
from claude_executor.gateway.exchange import ClientExchange, ClientGone
from claude_executor.gateway.headers import VIA, BadHeader, options_of
from claude_executor.gateway.refusals import OVERLOADED, SOON, ErrorReply, error_reply_for
from claude_executor.gateway.routes import OWN, Route, route_of
from claude_executor.gateway.upstream import BadRequest, Upstream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

LARGEST = 32 * 2**20
"""Bytes of a request for a message; the API takes no more."""
MOST_BUFFERED = 512 * 2**20
"""Bytes of all requests that wait or are under way."""
_HEALTH = f"{OWN}health"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

_TOO_LARGE = ErrorReply(413, "request_too_large", "a request for a message has at most 32 MB")
_NO_ROOM = ErrorReply(
    OVERLOADED, "overloaded_error", "the gateway holds as much as it can; try again later", True, SOON
)
_NO_JSON = ErrorReply(
    400, "invalid_request_error", "the body must be a JSON object, in UTF-8, not compressed"
)
_TOO_DEEP = ErrorReply(400, "invalid_request_error", "the body is nested too deeply")
_NOT_SERVED = ErrorReply(
    404,
    "not_found_error",
    "the gateway serves what is under /v1/, and its own /claude-executor/health, /status and /metrics",
)
_UNPACED = ErrorReply(
    404,
    "not_found_error",
    "the gateway cannot pace this: it would use up the limits of all others unseen; ask /v1/messages instead",
)
_NO_METHOD = ErrorReply(405, "invalid_request_error", "the gateway does not know this method")
_LOOP = ErrorReply(508, "api_error", "the gateway's base URL leads back to itself; see ANTHROPIC_BASE_URL")
_OUR_MISTAKE = ErrorReply(500, "api_error", "the gateway has met an error of its own; its log says where")

_log = logging.getLogger("claude_executor.gateway")


class Gateway:
    """An ASGI application that passes on to the Claude API what it is sent, under an executor's limits.

    The executor must be open while it serves; it should not stop everybody for what one of them asks for:
    ``Executor(retry=RetryPolicy(fail_fast=False))``.

    Attributes:
        leaving: Set when it is about to stop: then it says that it is not well, so that nobody new is sent.
    """

    def __init__(
        self,
        executor: Executor,
        client: "AsyncAnthropic",
        http_client: httpx2.AsyncClient,
        *,
        access: Access | None = None,
        metrics: Callable[[], bytes] | None = None,
    ) -> None:
        """Nothing is sent before the first request.

        Args:
            executor: Paces and protects.
            client: Has the key, and sends what is paced; its retries are not used.
            http_client: Sends what is not paced; it may be the client's own. See `http_client_for`.
            access: Who may use it; by default everybody who can reach it, except web pages.
            metrics: What ``/claude-executor/metrics`` answers, in Prometheus' text form.
        """
        self._executor = executor
        self._name = f"claude-executor-{secrets.token_hex(4)}"
        self._upstream = Upstream(executor, client, http_client, self._name)
        self._access = access or Access()
        self._metrics = metrics
        self._buffered = 0
        self.leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        exchange = ClientExchange(scope, receive, send)
        if exchange.path == _HEALTH:  # who looks after the machine has no key
            said, status = (b"leaving", 503) if self.leaving else (b"ok", 200)
            await exchange.answer(b'{"status":"%s"}' % said, status=status)
            return
        client = self._access.admit(exchange.headers)
        route = route_of(exchange.method, exchange.path)
        if isinstance(client, ErrorReply):
            await exchange.refuse(client)
        elif route is Route.OWN:
            await self._answer_ourselves(exchange)
        elif (refusal := self._refusal(exchange, route)) is not None:
            await exchange.refuse(refusal)
        else:
            await exchange.while_there(self._serve(exchange, route, client))

    async def _answer_ourselves(self, exchange: ClientExchange) -> None:
        what = exchange.path.removeprefix(OWN)
        if what == "status":
            await exchange.answer(orjson.dumps(self._executor.snapshot()))
        elif what == "metrics" and self._metrics is not None:
            await exchange.answer(self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            await exchange.refuse(_NOT_SERVED)

    def _refusal(self, exchange: ClientExchange, route: Route) -> ErrorReply | None:
        if self._name in exchange.headers.get(VIA, ""):
            return _LOOP
        if route is Route.UNPACED:
            return _UNPACED
        if route is Route.NOT_SERVED:
            return _NOT_SERVED
        return None if exchange.method in _METHODS else _NO_METHOD

    async def _serve(self, exchange: ClientExchange, route: Route, client: str) -> None:
        paced = route is Route.PACED
        try:
            response = await (self._ask(exchange, client) if paced else self._pass_on(exchange))
        except ClientGone:
            return
        except Exception as error:
            # What was tried only once is the client's to try again.
            response = error_reply_for(error, again=False if paced else None) or _mistake(error)
        if isinstance(response, ErrorReply):
            await exchange.refuse(response)
            return
        try:
            await exchange.relay(response)
        except httpx2.TransportError as error:  # the server must break off, too, so that the client sees it
            _log.warning("the API has broken off an answer (%s)", type(error).__name__)
            raise

    async def _pass_on(self, exchange: ClientExchange) -> httpx2.Response:
        body = exchange.pieces() if exchange.has_body else None
        return await self._upstream.pass_on(exchange.method, exchange.url, body, exchange.headers)

    async def _ask(self, exchange: ClientExchange, client: str) -> httpx2.Response | ErrorReply:
        pieces, size = list[bytes](), 0
        try:
            options = options_of(exchange.headers, client)
            async for piece in exchange.pieces():
                size += len(piece)
                self._buffered += len(piece)
                if size > LARGEST:
                    return _TOO_LARGE
                if self._buffered > MOST_BUFFERED:
                    return _NO_ROOM
                pieces.append(piece)
            params = orjson.loads(b"".join(pieces))
            if not isinstance(params, dict):
                return _NO_JSON
            pieces.clear()
            asked = cast("dict[str, object]", params)
            return await self._upstream.ask(exchange.url, asked, exchange.headers, options)
        except orjson.JSONDecodeError:
            return _NO_JSON
        except RecursionError:
            return _TOO_DEEP
        except (BadHeader, BadRequest) as error:
            return ErrorReply(400, "invalid_request_error", str(error))
        finally:
            self._buffered -= size


def _mistake(error: Exception) -> ErrorReply:
    """Where it was, and nothing of what it says: that may be somebody's prompt."""
    *_, place = traceback.extract_tb(error.__traceback__)
    _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
    return _OUR_MISTAKE
