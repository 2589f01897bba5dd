"""async-batch-llm: `process_prompts` around the SDK, everything but limits and attempts left as it comes.

It has one bucket for tokens, which is told input and output in one sum; what it is not told of it does not
limit. Ten attempts for errors, its own twenty for 429s, after each of which everybody pauses for 300 s.
"""

from typing import Any

from async_batch_llm import (
    CallableStrategy,
    CallOutcome,
    ProcessorConfig,
    RateLimitConfig,
    RetryConfig,
    process_prompts,
)
from async_batch_llm.token_estimation import TokenEstimate

from benchmarks.lab.contestants.entry import Outcomes, Task, enter
from benchmarks.lab.contestants.plain import ask, client_for

EXPECTED_OUTPUT = 256
"""Tokens; what the library's own estimator begins with."""


async def run(task: Task, pauses: RateLimitConfig | None = None) -> Outcomes:
    """Send all prompts; per prompt `None` or what went wrong."""
    limits: dict[str, Any] = {}
    if "rpm" in task.told:
        limits["max_requests_per_minute"] = task.told["rpm"]
    if task.tokens_told is not None:
        limits["max_tokens_per_minute"] = int(task.tokens_told)
    if "burst" in task.told:
        limits["quota_burst_seconds"] = task.told["burst"]
    config = ProcessorConfig(
        concurrency=task.concurrency,
        attempt_timeout=600.0,
        retry=RetryConfig(max_attempts=10),
        rate_limit=pauses or RateLimitConfig(),
        **limits,
    )
    client = client_for(task)

    # A prompt is text to the library: it gets the row's number, and we look the row up.
    async def invoke(row: str, *, attempt: int, timeout: float, state: object) -> CallOutcome[str]:
        del attempt, timeout, state
        message = await ask(client, task.prompts[int(row)])
        usage = {"input_tokens": message.usage.input_tokens, "output_tokens": message.usage.output_tokens}
        usage["total_tokens"] = sum(usage.values())
        answer = "".join(block.text for block in message.content if block.type == "text")
        return CallOutcome(answer, token_usage=usage)

    def estimate(row: str, **_: object) -> TokenEstimate:
        params = task.prompts[int(row)]
        letters = len(params["messages"][0]["content"])
        return TokenEstimate(letters // 4 + 1, min(params["max_tokens"], EXPECTED_OUTPUT))

    strategy = CallableStrategy(invoke, token_estimator=estimate)
    rows = [(str(number), str(number)) for number in range(len(task.prompts))]
    async with client:
        batch = await process_prompts(strategy, rows, config=config)
    outcomes: Outcomes = ["no result"] * len(rows)
    for result in batch.results:
        outcomes[int(result.item_id)] = None if result.success else str(result.error)[:200]
    return outcomes


if __name__ == "__main__":
    enter(run)
