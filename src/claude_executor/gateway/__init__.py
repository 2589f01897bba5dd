"""A gateway: an HTTP service that passes on what is meant for the Claude API, under one executor's limits.

Any language's SDK, or none, points its base URL at it, and is paced, tried again and protected as Python code
with an `Executor` is::

    http_client = http_client_for(max_concurrency=200)
    client = AsyncAnthropic(http_client=http_client, max_retries=0)
    async with Executor(client=client, retry=RetryPolicy(fail_fast=False)) as executor:
        app = Gateway(executor, client, http_client)    # an ASGI application, for uvicorn or another server

``claude-executor serve`` does that. Messages, whole and as streams, wait for their turn among all others;
counting tokens is paced by the limit it has of its own; whatever else there is under ``/v1/`` is passed on at
once. What comes back is what the API says, byte for byte.
"""

from claude_executor.gateway.access import Access
from claude_executor.gateway.app import Gateway
from claude_executor.gateway.client import ApiError, connect, fetch
from claude_executor.gateway.upstream import http_client_for

__all__ = ["Access", "ApiError", "Gateway", "connect", "fetch", "http_client_for"]
