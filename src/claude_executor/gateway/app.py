"""The ASGI application: takes requests, has them sent, gives back what came."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httpx2
import orjson
from starlette.types import Receive, Scope, Send

from claude_executor import Executor
from claude_executor.gateway.access import Access
from claude_executor.gateway.exchange import Exchange, Gone
from claude_executor.gateway.refusals import Refusal, refusal_of
from claude_executor.gateway.terms import BadHeader, terms_of
from claude_executor.gateway.upstream import Upstream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

ASKED = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
"""What draws on a limit that the executor keeps."""
_UNPACED = frozenset({"/v1/chat/completions", "/v1/complete"})
"""Draws on the limits of messages in a form that the executor does not know."""
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
OWN = "/claude-executor/"
HEALTH = f"{OWN}health"
LARGEST = 32 * 2**20
"""Bytes of a request for a message; the API takes no more."""

_TOO_LARGE = Refusal(413, "request_too_large", "a request for a message has at most 32 MB")
_NO_JSON = Refusal(400, "invalid_request_error", "the body must be a JSON object")
_NOT_SERVED = Refusal(
    404,
    "not_found_error",
    "the gateway serves what is under /v1/, and its own /claude-executor/health, /status and /metrics",
)
_OTHER_FORM = Refusal(
    404,
    "not_found_error",
    "the gateway cannot pace this: it would use up the limits of all others unseen; ask /v1/messages instead",
)
_NO_METHOD = Refusal(405, "invalid_request_error", "the gateway does not know this method")


class Gateway:
    """An ASGI application that passes on to the Claude API what it is sent, under an executor's limits.

    The executor must be open while it serves.
    """

    def __init__(
        self,
        executor: Executor,
        client: "AsyncAnthropic",
        *,
        access: Access | None = None,
        metrics: Callable[[], bytes] | None = None,
    ) -> None:
        """Nothing is sent before the first request.

        Args:
            executor: Paces and protects.
            client: Sends, with its own key; its retries are not used.
            access: Who may use it; by default everybody who can reach it, except web pages.
            metrics: What ``/claude-executor/metrics`` answers, in Prometheus' text form.
        """
        self._executor = executor
        self._upstream = Upstream(executor, client)
        self._access = access or Access()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        exchange = Exchange(scope, receive, send)
        client = self._access.admit(exchange.headers)
        if exchange.path == HEALTH:  # who looks after the machine has no key
            await exchange.tell(b'{"status":"ok"}')
        elif isinstance(client, Refusal):
            await exchange.refuse(client)
        elif exchange.path.startswith(OWN):
            await self._own(exchange)
        else:
            await exchange.while_there(self._serve(exchange, client))

    async def _own(self, exchange: Exchange) -> None:
        what = exchange.path.removeprefix(OWN)
        if what == "status":
            await exchange.tell(orjson.dumps(self._executor.snapshot()))
        elif what == "metrics" and self._metrics is not None:
            await exchange.tell(self._metrics(), "text/plain; version=0.0.4")
        else:
            await exchange.refuse(_NOT_SERVED)

    async def _serve(self, exchange: Exchange, client: str) -> None:
        try:
            response = await self._answer(exchange, client)
        except Gone:
            return
        except BadHeader as error:
            response = Refusal(400, "invalid_request_error", str(error))
        except Exception as error:
            response = refusal_of(error)
        if isinstance(response, Refusal):
            await exchange.refuse(response)
        else:
            await exchange.give(response)

    async def _answer(self, exchange: Exchange, client: str) -> httpx2.Response | Refusal:
        path, method = exchange.path, exchange.method
        if path in _UNPACED:
            return _OTHER_FORM
        if not path.startswith("/v1/") or "/../" in f"{path}/":
            return _NOT_SERVED
        if method not in _METHODS:
            return _NO_METHOD
        if path not in ASKED or method != "POST":
            body = exchange.pieces() if exchange.has_body else None
            return await self._upstream.pass_on(method, exchange.url, body, exchange.headers)
        terms = terms_of(exchange.headers, client)
        whole = await exchange.whole(LARGEST)
        if whole is None:
            return _TOO_LARGE
        try:
            params = orjson.loads(whole)
        except orjson.JSONDecodeError:
            return _NO_JSON
        if not isinstance(params, dict):
            return _NO_JSON
        asked = cast("dict[str, object]", params)
        return await self._upstream.ask(exchange.url, asked, exchange.headers, terms)
