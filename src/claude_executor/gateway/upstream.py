"""The API, for the gateway: the one place that sends what clients sent.

What draws on a limit goes through a client of the SDK that has the executor's `middleware`, with the body as
the client wrote it, in JSON's terms. Everything else goes through as it is, piece by piece.
"""

from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, cast

import anthropic
import httpx2

from claude_executor import Executor, RequestOptions
from claude_executor.gateway.headers import VIA, client_timeout, sent_on
from claude_executor.sdk.http_client import CONNECT_TIMEOUT, default_http_client

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

USUAL_TIMEOUT = 600.0
"""Seconds; that of the SDK."""
_NOT_OURS = frozenset({"accept", "content-type", "user-agent"})
"""Headers in which the SDK speaks for itself; so do those that begin with ``x-stainless-``."""

_current_options: ContextVar[RequestOptions] = ContextVar("options of the request")


def http_client_for(*, max_concurrency: int = 200) -> httpx2.AsyncClient:
    """What sends requests for a gateway: on aiohttp, with a connection for each of them, and without cookies.

    What the API gives to one client is no other client's.
    """
    http_client = default_http_client(2 * max_concurrency)  # requests that are not paced need some, too
    http_client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return http_client


class BadRequest(ValueError):
    """It lacks what every request has."""


class Upstream:
    """Sends requests, and brings back the API's answers, whatever they say."""

    def __init__(
        self, executor: Executor, client: "AsyncAnthropic", http_client: httpx2.AsyncClient, name: str
    ) -> None:
        """`client` has the key, `http_client` sends what is not paced; `name` is what ``via`` says."""
        self._client = client
        self._paced = client.with_options(
            max_retries=0, middleware=[executor.middleware(_current_options.get)]
        )
        self._http = http_client
        self._via = {VIA: f"1.1 {name}"}

    async def ask(
        self, url: str, params: Mapping[str, object], headers: Mapping[str, str], options: RequestOptions
    ) -> httpx2.Response:
        """Send what draws on a limit, in its turn. The body of a stream is still to come.

        The answer may take as long as the client says it will wait, and ten minutes at least.

        Raises:
            Rejected: It was not sent.
            anthropic.APIConnectionError: There was no answer.
            BadRequest: It lacks what every request has.
        """
        mark = _current_options.set(options)
        sent = {**sent_on(headers), **self._via, "content-type": "application/json"}
        try:
            answer = await self._paced.post(
                url,
                body=params,
                cast_to=anthropic.AsyncAPIResponse[httpx2.Response],
                options={"headers": sent, "timeout": _timeout(headers), "follow_redirects": False},
                stream=params.get("stream") is True,
                stream_cls=anthropic.AsyncStream[Any],
            )
        except anthropic.APIStatusError as error:
            return error.response
        except ValueError as error:  # of the estimate; it quotes nothing
            raise BadRequest(str(error)) from error
        finally:
            _current_options.reset(mark)
        return cast("anthropic.AsyncAPIResponse[httpx2.Response]", answer).http_response

    async def pass_on(
        self, method: str, url: str, body: AsyncIterator[bytes] | None, headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Send anything else, at once. The body of the answer is still to come.

        Raises:
            httpx2.TransportError: There was no answer.
        """
        sent = httpx2.Headers({**_keys_of(self._client), **sent_on(headers), **self._via})
        if body is not None and "content-length" in headers:
            sent["content-length"] = headers["content-length"]
        base = self._client.base_url
        whole = base.copy_with(raw_path=base.raw_path + url.encode("latin-1").lstrip(b"/"))
        request = self._http.build_request(
            method, whole, headers=sent, content=body, timeout=_timeout(headers)
        )
        auth = self._client.custom_auth or httpx2.USE_CLIENT_DEFAULT
        return await self._http.send(request, auth=auth, stream=True, follow_redirects=False)


def _keys_of(client: "AsyncAnthropic") -> dict[str, str]:
    """The headers by which the API knows whose requests these are, and in which version they are."""
    return {
        name.lower(): value
        for name, value in client.default_headers.items()
        if isinstance(value, str)
        and name.lower() not in _NOT_OURS
        and not name.lower().startswith("x-stainless-")
    }


def _timeout(headers: Mapping[str, str]) -> httpx2.Timeout:
    patience = client_timeout(headers) or 0.0
    return httpx2.Timeout(max(patience, USUAL_TIMEOUT), connect=CONNECT_TIMEOUT)
