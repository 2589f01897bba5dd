"""The gateway's connection to the API, the one place that sends the clients' requests.

Paced requests go through a client of the SDK with the executor's `middleware`; their JSON body keeps its
content. All other requests are forwarded unchanged, chunk by chunk.
"""

from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, cast

import anthropic
import httpx2

from claude_executor import Executor, RequestOptions
from claude_executor.gateway.headers import VIA, client_timeout, headers_for_api

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

DEFAULT_TIMEOUT = 600.0
"""Seconds; the default of the SDK."""
CONNECT_TIMEOUT = 15.0
_SDK_HEADERS = frozenset({"accept", "content-type", "user-agent"})
"""Headers that describe the SDK itself, like those that begin with ``x-stainless-``."""

_current_options: ContextVar[RequestOptions] = ContextVar("options of the request")


def http_client_for(*, max_concurrency: int = 200) -> httpx2.AsyncClient:
    """Create an HTTP client for a gateway: on aiohttp, with enough connections, and without cookies.

    Cookies are off because the API could set them for one client, and they would be sent for another.

    Args:
        max_concurrency: The `max_concurrency` of the executor.
    """
    connections = max(1_000, 2 * max_concurrency)  # forwarded requests need connections, too
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    http_client = anthropic.DefaultAioHttpClient(limits=limits)
    http_client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return http_client


class BadRequest(ValueError):
    """A request lacks a required parameter, or has an invalid one."""


class Upstream:
    """Sends requests to the API and returns its responses, errors included."""

    def __init__(
        self, executor: Executor, client: "AsyncAnthropic", http_client: httpx2.AsyncClient, name: str
    ) -> None:
        """Connect the executor to the API.

        Args:
            executor: Paces and retries the requests of `send_paced`.
            client: Supplies the API key and sends the paced requests.
            http_client: Sends the forwarded requests.
            name: The gateway's name in the header ``via``, by which it recognizes its own requests.
        """
        self._client = client
        self._paced = client.with_options(
            max_retries=0, middleware=[executor.middleware(_current_options.get)]
        )
        self._http = http_client
        self._via = {VIA: f"1.1 {name}"}

    async def send_paced(
        self, url: str, params: Mapping[str, object], headers: Mapping[str, str], options: RequestOptions
    ) -> httpx2.Response:
        """Send a request that uses a limit, when its turn comes. A streamed response is returned unread.

        The timeout is the client's own, but never less than ten minutes.

        Raises:
            Rejected: The request was not sent.
            anthropic.APIConnectionError: The API did not respond.
            BadRequest: The request lacks a required parameter, or has an invalid one.
        """
        mark = _current_options.set(options)
        sent = {**headers_for_api(headers), **self._via, "content-type": "application/json"}
        try:
            response = await self._paced.post(
                url,
                body=params,
                cast_to=anthropic.AsyncAPIResponse[httpx2.Response],
                options={"headers": sent, "timeout": _timeout(headers), "follow_redirects": False},
                stream=params.get("stream") is True,
                stream_cls=anthropic.AsyncStream[Any],
            )
        except anthropic.APIStatusError as error:
            return error.response
        except ValueError as error:  # from the cost estimate; its text quotes no content
            raise BadRequest(str(error)) from error
        finally:
            _current_options.reset(mark)
        return cast("anthropic.AsyncAPIResponse[httpx2.Response]", response).http_response

    async def forward(
        self, method: str, url: str, body: AsyncIterator[bytes] | None, headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Forward any other request immediately. The response is returned unread.

        Raises:
            httpx2.TransportError: The API did not respond.
        """
        sent = httpx2.Headers({**_api_headers_of(self._client), **headers_for_api(headers), **self._via})
        if body is not None and "content-length" in headers:
            sent["content-length"] = headers["content-length"]
        base = self._client.base_url
        whole = base.copy_with(raw_path=base.raw_path + url.encode("latin-1").lstrip(b"/"))
        request = self._http.build_request(
            method, whole, headers=sent, content=body, timeout=_timeout(headers)
        )
        auth = self._client.custom_auth or httpx2.USE_CLIENT_DEFAULT
        return await self._http.send(request, auth=auth, stream=True, follow_redirects=False)


def _api_headers_of(client: "AsyncAnthropic") -> dict[str, str]:
    """Return the headers that authenticate a request and name its API version."""
    return {
        name.lower(): value
        for name, value in client.default_headers.items()
        if isinstance(value, str)
        and name.lower() not in _SDK_HEADERS
        and not name.lower().startswith("x-stainless-")
    }


def _timeout(headers: Mapping[str, str]) -> httpx2.Timeout:
    seconds = client_timeout(headers) or 0.0
    return httpx2.Timeout(max(seconds, DEFAULT_TIMEOUT), connect=CONNECT_TIMEOUT)
