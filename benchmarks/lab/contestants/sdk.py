"""The SDK alone: a semaphore and `max_retries=10`."""

import asyncio

from benchmarks.lab.contestants.entry import Outcomes, Prompt, Task, each, enter
from benchmarks.lab.contestants.plain import ask, client_for

IN_FLIGHT = 50


async def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async with client_for(task, max_retries=10) as client:

        async def one(params: Prompt, _: int) -> str | None:
            async with slots:
                try:
                    await ask(client, params)
                except Exception as error:  # whatever a user of the SDK would have to catch
                    return repr(error)[:200]
            return None

        return await each(task, one)


if __name__ == "__main__":
    enter(run)
