"""The SDK alone: a semaphore and `max_retries=10`."""

import asyncio

import anthropic

from benchmarks.lab.contestants.entry import Prompt, Task, enter

IN_FLIGHT = 50


async def run(task: Task) -> list[str | None]:
    """Send all prompts; per prompt `None` or what went wrong."""
    slots = asyncio.Semaphore(IN_FLIGHT)
    client = anthropic.AsyncAnthropic(
        api_key="k",
        base_url=task.base_url,
        max_retries=10,
        timeout=600,
        http_client=anthropic.DefaultAioHttpClient(),
    )

    async def one(params: Prompt) -> str | None:
        async with slots:
            try:
                message = await client.messages.create(**params)
            except Exception as error:  # whatever a user of the SDK would have to catch
                return repr(error)[:200]
        return None if getattr(message, "stop_reason", None) else "incomplete answer"

    async with client:
        return await asyncio.gather(*(one(params) for params in task.prompts))


if __name__ == "__main__":
    enter(run)
