"""The ASGI application: accepts requests, sends them through the executor and relays the responses."""

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
from claude_executor.gateway.error_replies import DEFAULT_RETRY_AFTER, OVERLOADED, ErrorReply, error_reply_for
from claude_executor.gateway.exchange import ClientDisconnected, ClientExchange
from claude_executor.gateway.headers import VIA, BadHeader, options_of
from claude_executor.gateway.routes import OWN, Route, route_of
from claude_executor.gateway.upstream import BadRequest, Upstream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

MAX_BODY_BYTES = 32 * 2**20
"""The largest body of a paced request, in bytes; the API accepts no larger one."""
MAX_BUFFERED_BYTES = 512 * 2**20
"""Bytes buffered for all requests that are queued or in flight."""
_HEALTH = f"{OWN}health"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

_TOO_LARGE = ErrorReply(413, "request_too_large", "the request body is larger than 32 MB; send a smaller one")
_BUFFER_FULL = ErrorReply(
    OVERLOADED,
    "overloaded_error",
    "the gateway has buffered as many requests as it can; retry later",
    should_retry=True,
    retry_after=DEFAULT_RETRY_AFTER,
)
_NOT_JSON = ErrorReply(
    400, "invalid_request_error", "the request body must be an uncompressed JSON object encoded in UTF-8"
)
_TOO_DEEP = ErrorReply(400, "invalid_request_error", "the request body is nested too deeply; flatten it")
_NOT_SERVED = ErrorReply(
    404,
    "not_found_error",
    "no such path; the gateway serves /v1/… and /claude-executor/health, /status and /metrics",
)
_CANNOT_PACE = ErrorReply(
    404,
    "not_found_error",
    "this endpoint shares the limits of /v1/messages, but the gateway cannot pace it; use /v1/messages",
)
_UNKNOWN_METHOD = ErrorReply(
    405, "invalid_request_error", "method not supported; use GET, POST, PUT, PATCH or DELETE"
)
_LOOP = ErrorReply(
    508, "api_error", "the gateway's base URL points at the gateway itself; change its ANTHROPIC_BASE_URL"
)
_INTERNAL_ERROR = ErrorReply(500, "api_error", "internal error of the gateway; see its log")

_log = logging.getLogger("claude_executor.gateway")


class Gateway:
    """An ASGI application that forwards requests to the Claude API under an executor's limits.

    The executor must stay open while the application serves. Create it with
    ``Executor(retry=RetryPolicy(fail_fast=False))``, so that a bad request of one client does
    not stop the others.

    Attributes:
        stopping: Set this to True before a shutdown. The health check then answers 503, so that load
            balancers send no new clients.
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
        """Create the application. No request is sent until a client sends one.

        Args:
            executor: Paces, retries and limits the requests.
            client: Supplies the API key and sends the paced requests; its own retries are not used.
            http_client: Sends the requests that are not paced; may be the one inside `client`. See
                `http_client_for`.
            access: Who may use the gateway; by default every client that can reach it, except web pages.
            metrics: Returns the body of ``/claude-executor/metrics``, in Prometheus' text format.
        """
        self._executor = executor
        self._name = f"claude-executor-{secrets.token_hex(4)}"
        self._upstream = Upstream(executor, client, http_client, self._name)
        self._access = access or Access()
        self._metrics = metrics
        self._buffered = 0
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        exchange = ClientExchange(scope, receive, send)
        if exchange.path == _HEALTH:  # health checks have no key
            state, status = (b"stopping", 503) if self.stopping else (b"ok", 200)
            await exchange.answer(b'{"status":"%s"}' % state, status=status)
            return
        client = self._access.authorize(exchange.headers)
        route = route_of(exchange.method, exchange.path)
        if isinstance(client, ErrorReply):
            await exchange.send_error(client)
        elif route is Route.OWN:
            await self._serve_own(exchange)
        elif (reply := self._route_error(exchange, route)) is not None:
            await exchange.send_error(reply)
        else:
            await exchange.run_while_connected(self._serve(exchange, route, client))

    async def _serve_own(self, exchange: ClientExchange) -> None:
        name = exchange.path.removeprefix(OWN)
        if name == "status":
            await exchange.answer(orjson.dumps(self._executor.snapshot(), option=orjson.OPT_NON_STR_KEYS))
        elif name == "metrics" and self._metrics is not None:
            await exchange.answer(self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            await exchange.send_error(_NOT_SERVED)

    def _route_error(self, exchange: ClientExchange, route: Route) -> ErrorReply | None:
        if self._name in exchange.headers.get(VIA, ""):
            return _LOOP
        if route is Route.CANNOT_PACE:
            return _CANNOT_PACE
        if route is Route.NOT_SERVED:
            return _NOT_SERVED
        return None if exchange.method in _METHODS else _UNKNOWN_METHOD

    async def _serve(self, exchange: ClientExchange, route: Route, client: str) -> None:
        paced = route is Route.PACED
        try:
            response = await (self._send_paced(exchange, client) if paced else self._forward(exchange))
        except ClientDisconnected:
            return
        except Exception as error:
            # A forwarded request was sent only once; retrying it is up to the client.
            response = error_reply_for(error, should_retry=False if paced else None) or _internal_error(error)
        if isinstance(response, ErrorReply):
            await exchange.send_error(response)
            return
        try:
            await exchange.relay(response)
        except httpx2.TransportError as error:  # the server must abort as well, so that the client notices
            _log.warning("a response of the API ended early (%s)", type(error).__name__)
            raise

    async def _forward(self, exchange: ClientExchange) -> httpx2.Response:
        body = exchange.body_chunks() if exchange.has_body else None
        return await self._upstream.forward(exchange.method, exchange.url, body, exchange.headers)

    async def _send_paced(self, exchange: ClientExchange, client: str) -> httpx2.Response | ErrorReply:
        chunks, size = list[bytes](), 0
        try:
            options = options_of(exchange.headers, client)
            async for chunk in exchange.body_chunks():
                size += len(chunk)
                self._buffered += len(chunk)
                if size > MAX_BODY_BYTES:
                    return _TOO_LARGE
                if self._buffered > MAX_BUFFERED_BYTES:
                    return _BUFFER_FULL
                chunks.append(chunk)
            params = orjson.loads(b"".join(chunks))
            if not isinstance(params, dict):
                return _NOT_JSON
            chunks.clear()
            body = cast("dict[str, object]", params)
            return await self._upstream.send_paced(exchange.url, body, exchange.headers, options)
        except orjson.JSONDecodeError:
            return _NOT_JSON
        except RecursionError:
            return _TOO_DEEP
        except (BadHeader, BadRequest) as error:
            return ErrorReply(400, "invalid_request_error", str(error))
        finally:
            self._buffered -= size


def _internal_error(error: Exception) -> ErrorReply:
    """Log where the error was raised, but not its text, which may quote a prompt."""
    *_, place = traceback.extract_tb(error.__traceback__)
    _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
    return _INTERNAL_ERROR
