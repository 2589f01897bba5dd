"""Counts the tokens of requests under an executor's limits, until `Executor.count_tokens` does."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from claude_executor import Failed, FailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anthropic import AsyncAnthropic

    from claude_executor import Executor, Params
    from claude_executor.cli.options.connection import ConnectionOptions


@asynccontextmanager
async def token_counter(
    executor: Executor, connection: ConnectionOptions
) -> AsyncGenerator[Callable[[Params], Awaitable[int]]]:
    """Yield a coroutine function that counts the input tokens of a request; it raises `Failed`."""
    async with await asyncio.to_thread(_client, executor, connection) as client:
        count, address = client.messages.count_tokens, f"{client.base_url.scheme}://{client.base_url.host}"
        known = frozenset(inspect.signature(count).parameters)

        async def count_tokens(params: Params) -> int:
            import anthropic

            arguments = {name: value for name, value in params.items() if name in known}
            try:
                answer = await count(**arguments)  # type: ignore[arg-type]  # the API says what is wrong
            except anthropic.APIStatusError as error:
                why = error.api_message or "no reason given"
                raise _failed(why, error.status_code) from error
            except anthropic.APIConnectionError as error:
                raise _failed(
                    f"cannot connect to {address}; check the network and ANTHROPIC_BASE_URL"
                ) from error
            except (anthropic.AnthropicError, TypeError) as error:  # the SDK's TypeError: there is no key
                no_key = "authentication" in str(error)
                why = "no API key found; set ANTHROPIC_API_KEY" if no_key else type(error).__name__
                raise _failed(why) from error
            return answer.input_tokens

        yield count_tokens


def _client(executor: Executor, connection: ConnectionOptions) -> AsyncAnthropic:
    import anthropic  # takes a second

    return anthropic.AsyncAnthropic(
        api_key=connection.api_key, base_url=connection.base_url, middleware=[executor.middleware()]
    )


def _failed(why: str, status: int | None = None) -> Failed:
    return Failed(why, kind=FailureKind.UNREACHABLE, attempts=1, status=status)
