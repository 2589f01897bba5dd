"""The API, for the gateway: the one place that sends what clients sent.

Messages go through a client of the SDK that has the executor's `middleware`, with the body as the client
wrote it, in JSON's terms; everything else goes through as it is, piece by piece.
"""

from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import anthropic
import httpx2

from claude_executor import Executor, Terms
from claude_executor.gateway.terms import PREFIX, patience_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

_OURS = ("x-stainless-", PREFIX, "proxy-", "sec-")
"""Headers that begin like this are for the gateway, or of the hop before it."""
_OF_ONE_HOP = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-api-key",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
_NOT_PASSED_BACK = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
)
"""Of the way between the API and the gateway, where the body may have been compressed."""
_NUMBER = "x-stainless-retry-count"
_USUAL_TIMEOUT = 600.0
"""Seconds; that of the SDK."""
_CONNECT_TIMEOUT = 15.0

_terms: ContextVar[Terms] = ContextVar("terms of the request")


def client_for(*, base_url: str | None = None, max_concurrency: int = 200) -> "AsyncAnthropic":
    """A client of the SDK for a gateway: on aiohttp, with a connection for each request in flight, and more.

    Raises:
        anthropic.CredentialsError: The files that the key is to come from are not as they should be.
    """
    connections = max(1_000, 2 * max_concurrency)  # what is not paced needs connections, too
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    http_client = anthropic.DefaultAioHttpClient(limits=limits)
    return anthropic.AsyncAnthropic(base_url=base_url, max_retries=0, http_client=http_client)


class Upstream:
    """Sends requests, and brings back the API's answers, whatever they say."""

    def __init__(self, executor: Executor, client: "AsyncAnthropic") -> None:
        """`client` is used without its retries."""
        self._plain = client.with_options(max_retries=0)
        self._paced = client.with_options(max_retries=0, middleware=[executor.middleware(_terms.get)])

    async def ask(
        self, url: str, params: Mapping[str, object], headers: Mapping[str, str], terms: Terms
    ) -> httpx2.Response:
        """Send what draws on a limit, in its turn. The body of a stream is still to come.

        The answer may take as long as the client says it will wait, and ten minutes at least.

        Raises:
            Rejected: It was not sent.
            anthropic.APIConnectionError: There was no answer.
        """
        mark = _terms.set(terms)
        try:
            answer = await self._paced.post(
                url,
                body=params,
                cast_to=anthropic.AsyncAPIResponse[httpx2.Response],
                options={"headers": sent_on(headers), "timeout": _timeout(patience_of(headers))},
                stream=params.get("stream") is True,
                stream_cls=anthropic.AsyncStream[Any],
            )
        except anthropic.APIStatusError as error:
            return error.response
        finally:
            _terms.reset(mark)
        return cast("anthropic.AsyncAPIResponse[httpx2.Response]", answer).http_response

    async def pass_on(
        self, method: str, url: str, body: AsyncIterator[bytes] | None, headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Send anything else, at once. The body of the answer is still to come.

        Raises:
            anthropic.APIConnectionError: There was no answer.
        """
        sent = {**sent_on(headers), "x-stainless-raw-response": "stream"}
        if "content-length" in headers:
            sent["content-length"] = headers["content-length"]
        options: Any = {"headers": sent, "timeout": _timeout(patience_of(headers))}
        response = anthropic.AsyncAPIResponse[httpx2.Response]
        try:
            if method == "GET":
                answer = await self._plain.get(url, cast_to=response, options=options)
            else:
                send = getattr(self._plain, method.lower())
                answer = await send(url, cast_to=response, content=body, options=options)
        except anthropic.APIStatusError as error:
            return error.response
        return answer.http_response


def _timeout(patience: float | None) -> httpx2.Timeout:
    return httpx2.Timeout(max(patience or 0.0, _USUAL_TIMEOUT), connect=_CONNECT_TIMEOUT)


def sent_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a client's request that are meant for the API."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return {
        name: value
        for name, value in headers.items()
        if name not in _OF_ONE_HOP and name not in named and not name.startswith(_OURS)
    }


def passed_back(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    """The headers of the API's answer that are meant for the client, and how many attempts it took."""
    headers = [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower().decode("latin-1") not in _NOT_PASSED_BACK
    ]
    attempts = int(response.request.headers.get(_NUMBER, "0")) + 1
    return [*headers, (f"{PREFIX}attempts".encode(), str(attempts).encode())]
