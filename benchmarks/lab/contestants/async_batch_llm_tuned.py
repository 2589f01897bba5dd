"""async-batch-llm as somebody sets it up who has read about its pauses: one second after a 429."""

from async_batch_llm import RateLimitConfig

from benchmarks.lab.contestants import async_batch_llm_default
from benchmarks.lab.contestants.entry import Outcomes, Task, enter


async def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    return await async_batch_llm_default.run(task, RateLimitConfig(cooldown_seconds=1.0))


if __name__ == "__main__":
    enter(run)
