"""Holds the SDK client of an executor: the one the user gave, or one of its own, which it closes."""

import asyncio
from typing import TYPE_CHECKING

from claude_executor.errors import Closed

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from claude_executor.sdk.transport import Transport


class ClientHandle:
    """The SDK client of an executor. It is opened and closed once."""

    def __init__(
        self,
        client: "AsyncAnthropic | None",
        *,
        api_key: str | None,
        base_url: str | None,
        max_concurrency: int,
        timeout: float,
    ) -> None:
        """`api_key`, `base_url` and `max_concurrency` are for the client that is built if none is given."""
        if not timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout}")
        self._client = client
        self._own: AsyncAnthropic | None = None
        self._build_with = (max_concurrency, api_key, base_url)
        self._timeout = timeout
        self._opened = False
        self._transport: Transport | None = None

    @property
    def transport(self) -> "Transport":
        """The transport, which makes attempts.

        Raises:
            Closed: The executor is not open.
        """
        if self._transport is None:
            raise Closed("enter the executor first: async with Executor(...) as executor")
        return self._transport

    async def open(self) -> None:
        """Build the client if none was given.

        Raises:
            Closed: The executor has been open before.
            Stopped: There is no API key.
        """
        if self._opened:
            raise Closed("an executor can be entered only once; create another")
        self._opened = True
        if self._client is None:
            # Importing the SDK takes seconds and its constructor reads files: not on the event loop.
            self._client = self._own = await asyncio.to_thread(self._build)
        from claude_executor.sdk.transport import Transport

        self._transport = Transport(self._client, timeout=self._timeout)

    def _build(self) -> "AsyncAnthropic":
        from claude_executor.sdk.http_client import default_client

        max_concurrency, api_key, base_url = self._build_with
        return default_client(max_concurrency=max_concurrency, api_key=api_key, base_url=base_url)

    async def close(self) -> None:
        """Make no more attempts, and close the client if it was built here."""
        self._transport = None
        if self._own is not None:
            await self._own.close()
