"""Clients of the API for a service: built in one place, and checked before anything depends on them."""

import os
from json import JSONDecodeError
from typing import TYPE_CHECKING

import anthropic
import httpx2

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class ApiError(Exception):
    """A call to the API brought no usable response. The message says why, and contains no key.

    Attributes:
        status: The HTTP status of the response; None if there was none.
        key_unusable: Whether the reason is the API key: there is none, or it cannot be sent.
    """

    def __init__(self, message: str, *, status: int | None = None, key_unusable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.key_unusable = key_unusable


def connect(
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    http_client: httpx2.AsyncClient | None = None,
    max_retries: int = 0,
) -> "AsyncAnthropic":
    """Build an SDK client. Nothing is sent.

    Args:
        base_url: Address of the API; ``ANTHROPIC_BASE_URL`` by default.
        api_key: The key; ``ANTHROPIC_API_KEY`` by default.
        http_client: Sends the requests, such as `http_client_for()`. The SDK's own by default.
        max_retries: Retries by the SDK itself. An executor does its own.

    Raises:
        ApiError: No API key can be read.
    """
    try:
        return anthropic.AsyncAnthropic(
            base_url=base_url, api_key=api_key, http_client=http_client, max_retries=max_retries
        )
    except anthropic.AnthropicError as error:
        raise ApiError(str(error), key_unusable=True) from error


async def fetch(client: "AsyncAnthropic", path: str, params: dict[str, object] | None = None) -> object:
    """Get a resource of the API, such as ``/v1/models``, as parsed JSON.

    Args:
        client: Sends the request, with its key.
        path: Path below the base URL.
        params: The query.

    Raises:
        ApiError: There was no response, or its status is an error.
    """
    try:
        return await client.get(
            path, cast_to=object, options={"params": params or {}, "timeout": httpx2.Timeout(10.0)}
        )
    except anthropic.APIStatusError as error:
        raise ApiError(f"HTTP {error.status_code}", status=error.status_code) from error
    except anthropic.APIConnectionError as error:
        if isinstance(error.__cause__, (httpx2.LocalProtocolError, ValueError)):
            raise ApiError("the API key contains an invalid character", key_unusable=True) from error
        raise ApiError(_cause(error)) from error
    except (JSONDecodeError, anthropic.APIError) as error:
        raise ApiError("the response is not JSON", status=200) from error
    except (TypeError, ValueError, anthropic.AnthropicError) as error:  # no key, or one with a line break
        raise ApiError("there is no API key that can be sent", key_unusable=True) from error


def _cause(error: BaseException) -> str:
    """The most specific reason that is known, on one line."""
    last = error
    while last.__cause__ is not None:
        last = last.__cause__
    if isinstance(last, ConnectionError) and last.errno is not None:
        return os.strerror(last.errno).lower()
    text = " ".join((last.strerror if isinstance(last, OSError) and last.strerror else str(last)).split())
    if "WRONG_VERSION_NUMBER" in text:
        return "TLS handshake failed (is it http://?)"
    return text or type(last).__name__
