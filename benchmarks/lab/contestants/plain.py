"""The SDK as those use it who bring a limiter of their own: a client on aiohttp, and a look at the answer."""

import anthropic

from benchmarks.lab.contestants.entry import Prompt, Task


def client_for(task: Task, *, max_retries: int = 0) -> anthropic.AsyncAnthropic:
    """A client of the task's API."""
    return anthropic.AsyncAnthropic(
        api_key="k",
        base_url=task.base_url,
        max_retries=max_retries,
        timeout=600,
        http_client=anthropic.DefaultAioHttpClient(),
    )


async def ask(client: anthropic.AsyncAnthropic, params: Prompt) -> anthropic.types.Message:
    """One request.

    Raises:
        RuntimeError: The answer broke off, which the SDK does not say.
    """
    message = await client.messages.create(**params)
    if not getattr(message, "stop_reason", None):
        raise RuntimeError("incomplete answer")
    return message
