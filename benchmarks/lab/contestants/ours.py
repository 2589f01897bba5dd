"""claude-executor: `gather` over `submit`."""

import anthropic  # noqa: F401  # the others import it before their clock starts

from benchmarks.lab.contestants.entry import Outcomes, Prompt, Task, each, enter
from claude_executor import Executor, ExecutorError, Limits


async def run(task: Task) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    limits = Limits(**task.told)
    async with Executor(
        limits, base_url=task.base_url, api_key="k", max_concurrency=task.concurrency
    ) as executor:

        async def one(params: Prompt, priority: int) -> str | None:
            try:
                await executor.submit(params, priority=priority)
            except ExecutorError as error:
                return str(error)
            return None

        return await each(task, one)


if __name__ == "__main__":
    enter(run)
