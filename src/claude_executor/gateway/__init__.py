"""An HTTP gateway to the Claude API: clients in any language share one executor's rate limits and retries.

Clients point their SDK's base URL at the gateway. Their requests are paced, retried and protected exactly
like those of Python code that uses an `Executor`::

    http_client = http_client_for(max_concurrency=200)
    client = AsyncAnthropic(http_client=http_client, max_retries=0)
    async with Executor(client=client, retry=RetryPolicy(fail_fast=False)) as executor:
        app = Gateway(executor, client, http_client)    # an ASGI application, for uvicorn or another server

``claude-executor serve`` runs one. Messages, streamed or not, wait in the executor's queue; token counting is
paced by its own limit; everything else under ``/v1/`` is forwarded immediately. Responses reach the client
byte for byte as the API sent them.
"""

from claude_executor.gateway.access import Access
from claude_executor.gateway.app import Gateway
from claude_executor.gateway.client import ApiError, connect, fetch
from claude_executor.gateway.upstream import http_client_for

__all__ = ["Access", "ApiError", "Gateway", "connect", "fetch", "http_client_for"]
