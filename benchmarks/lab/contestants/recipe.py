"""The recipe of many guides: a semaphore, aiolimiter for requests and tokens, tenacity for retries."""

import asyncio

import anthropic
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from benchmarks.lab.contestants.entry import Outcomes, Prompt, Task, each, enter
from benchmarks.lab.contestants.plain import ask, client_for

IN_FLIGHT = 200
RETRIED = (anthropic.RateLimitError, anthropic.InternalServerError, anthropic.APIConnectionError)


async def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    slots = asyncio.Semaphore(IN_FLIGHT)
    requests = AsyncLimiter(task.told.get("rpm", 600), 60)
    tokens_a_minute = task.told.get("itpm", 1e9) + task.told.get("otpm", 1e9)
    tokens = AsyncLimiter(tokens_a_minute, 60)

    async with client_for(task) as client:

        async def one(params: Prompt, _: int) -> str | None:
            estimate = len(params["messages"][0]["content"]) / 4 + params["max_tokens"]
            try:
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception_type(RETRIED),
                    stop=stop_after_attempt(10),
                    wait=wait_random_exponential(1, 60),
                    reraise=True,
                ):
                    with attempt:
                        async with slots:
                            await requests.acquire()
                            await tokens.acquire(min(estimate, tokens_a_minute))
                            await ask(client, params)
            except Exception as error:  # whatever a user of the recipe would have to catch
                return repr(error)[:200]
            return None

        return await each(task, one)


if __name__ == "__main__":
    enter(run)
